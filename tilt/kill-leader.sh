#!/bin/sh
# Kills the settler that leads, with SIGKILL, waits until another one leads, and starts the killed one again as a standby.
#
#   tilt/kill-leader.sh compose|kubernetes
set -eu
form=${1-}
. "$(dirname "$0")/lib.sh"

another_leads() {
    now=$(leader)
    [ -n "$now" ] && [ "$now" != "$old" ]
}

ms() {
    date +%s%3N
}

old=$(leader)
[ -n "$old" ] || fail "nobody leads: is the stack up?"
case $form in
compose)
    container=$(container "$old")
    killed_at=$(ms)
    docker kill "$container" >/dev/null
    ;;
kubernetes)
    killed_at=$(ms)
    kubectl --namespace "$namespace" delete pod "$old" --grace-period=0 --force --wait=false >/dev/null 2>&1
    ;;
esac
echo "killed $old, which led"
await 30 "a new leader" another_leads
echo "$(leader) leads $(($(ms) - killed_at)) ms after the kill"
# Kubernetes has made a new one by now.
[ "$form" != compose ] || docker start "$container" >/dev/null
