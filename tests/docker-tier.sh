#!/bin/sh
# Runs the harness's own tests with Redis in containers.
#
#   tests/docker-tier.sh [arguments of cargo nextest run]
#
# Uses the Docker engine that answers; where none does, and this is root on a machine that has dockerd, starts one and
# stops it again at the end. Makes the image with tests/redis-image.sh.
set -eu

cd "$(dirname "$0")/.."
work=$(mktemp -d)
engine=

fail() {
    echo "docker-tier: $*" >&2
    exit 1
}

answers() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

cleanup() {
    # Containers of tests that were killed; those that ended have removed theirs.
    left=$(docker ps --all --quiet --filter label=millrace-test 2>/dev/null) || left=
    # shellcheck disable=SC2086 # a list of ids, meant to be split
    [ -z "$left" ] || docker rm --force $left >/dev/null 2>&1 || true
    if [ -n "$engine" ]; then
        kill "$engine" 2>/dev/null || true
        wait "$engine" 2>/dev/null || true
    fi
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

# Starts an engine with the given options; false if it ends before it answers.
start_engine() {
    dockerd "$@" >"$work/dockerd.log" 2>&1 &
    engine=$!
    tries=0
    until answers; do
        kill -0 "$engine" 2>/dev/null || { engine=; return 1; }
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || return 1
        sleep 0.2
    done
    echo "docker-tier: started dockerd $*"
}

command -v docker >/dev/null || fail "there is no docker command; install a Docker client and engine"
if ! answers; then
    [ "$(id -u)" = 0 ] || fail "no Docker engine answers, and only root can start one"
    command -v dockerd >/dev/null || fail "no Docker engine answers, and there is no dockerd to start"
    # A machine without usable iptables or overlay file system, such as a container, needs the later attempts.
    start_engine || start_engine --iptables=false || start_engine --iptables=false --storage-driver=vfs || {
        tail -n 20 "$work/dockerd.log" >&2
        fail "dockerd does not come up; its last lines are above"
    }
fi

tests/redis-image.sh
cargo build --workspace --bins
MILLRACE_TEST_REDIS=docker cargo nextest run -p tests --lib --test harness "$@"
