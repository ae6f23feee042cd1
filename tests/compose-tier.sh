#!/bin/bash
# Starts the Compose form for real, from images made here without any registry, and holds it to what it promises: pays
# through its front door while the leader's container, and then a relayer's, is killed; audits; drains; goes on after a
# restart; takes a rebuilt program without a new image.
#
#   tests/compose-tier.sh
#
# Uses the Docker engine that answers; where none does, and this is root, starts one (tests/docker-engine.sh).
set -euo pipefail

cd "$(dirname "$0")/.."
me=compose-tier
. tests/docker-engine.sh
work=$(mktemp -d)

# A project, ports and a network of its own, so that a stack that runs already is left alone.
export COMPOSE_PROJECT_NAME=millrace-tier MILLRACE_SUBNET=10.217.78
while IFS='=' read -r name value; do
    case $name in MILLRACE_PORT_*) export "$name=$((value + 20000))" ;; esac
done <tilt/.env
set -a
. tilt/no-registry.env
set +a
here=$PWD/tilt form=compose
. tilt/lib.sh

fail() {
    echo "$me: $*" >&2
    exit 1
}

load=
cleanup() {
    status=$?
    [ -z "$load" ] || kill "$load" 2>/dev/null || true
    if [ "$status" != 0 ] && engine_answers; then
        compose ps || true
        compose logs --tail=15 --no-color || true
    fi
    compose down --volumes --remove-orphans --timeout 5 >/dev/null 2>&1 || true
    docker rm --force --volumes "$COMPOSE_PROJECT_NAME-once" >/dev/null 2>&1 || true
    engine_down
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

say() {
    printf '%s: [%3d s] %s\n' "$me" "$SECONDS" "$*"
}

client() {
    target/debug/millrace "$@"
}
export MILLRACE_ISSUER_URL=http://127.0.0.1:$MILLRACE_PORT_ISSUER
export MILLRACE_RELAYER_URL=http://127.0.0.1:$MILLRACE_PORT_FRONT
export MILLRACE_RELAYER_URLS=$MILLRACE_RELAYER_URL
export MILLRACE_REDIS_URL=redis://127.0.0.1:$MILLRACE_PORT_REDIS

# expect WHAT EXPECTED ACTUAL
expect() {
    [ "$2" = "$3" ] || fail "$1: expected $2, found $3"
}

# acknowledged: how many payments payers have been told are taken.
acknowledged() {
    grep -c '"outcome":"\(accepted\|duplicate\)"' "$work/run.ndjson" 2>/dev/null || true
}

# paid_beyond N: more than N payments were acknowledged.
paid_beyond() {
    [ "$(acknowledged)" -gt "$1" ]
}

# healthy SERVICE…: all of them say so of themselves.
healthy() {
    for service in "$@"; do
        [ "$(docker inspect --format '{{.State.Health.Status}}' "$(container "$service")")" = healthy ] || return 1
    done
}

everyone=(redis issuer relayer-1 relayer-2 settler-1 settler-2 lb)

# start: everything up and healthy, and so it says.
start() {
    compose up --detach >"$work/up.log" 2>&1 || {
        cat "$work/up.log" >&2
        fail "the stack does not come up"
    }
    await 60 "every container healthy" healthy "${everyone[@]}"
}

# files IMAGE: what it holds that is Millrace's, with modes, owners and hashes.
files() {
    docker create --name "$COMPOSE_PROJECT_NAME-once" "$1" >/dev/null
    docker export "$COMPOSE_PROJECT_NAME-once" | tar -C "$work/export" -x opt/millrace etc/millrace var/lib/millrace
    docker rm "$COMPOSE_PROJECT_NAME-once" >/dev/null
    (cd "$work/export" && find . -printf '%M %U:%G %p\n' | sort && find . -type f -exec sha256sum {} + | sort)
    find "$work/export" -mindepth 1 -delete
}

for needed in curl strip; do
    command -v $needed >/dev/null || apt_install "$(if [ $needed = strip ]; then echo binutils; else echo $needed; fi)"
done
engine_up "$work"
docker compose version >/dev/null 2>&1 || command -v docker-compose >/dev/null || apt_install docker-compose

cargo build --workspace --bins
tilt/base-image.sh
tilt/stage.sh debug
tilt/images.sh --prebuilt

for part in relayer settler issuer; do
    image=millrace-$part:dev
    expect "$image runs as" 65532:65532 "$(docker image inspect --format '{{.Config.User}}' "$image")"
    expect "$image stops on" SIGTERM "$(docker image inspect --format '{{.Config.StopSignal}}' "$image")"
    expect "$image probes" --probe "$(docker image inspect --format '{{index .Config.Healthcheck.Test 4}}' "$image")"
done
mkdir "$work/export"
files millrace-relayer:dev >"$work/first"
MILLRACE_BUILD_OPTIONS=--no-cache tilt/images.sh --prebuilt >/dev/null
files millrace-relayer:dev >"$work/second"
cmp "$work/first" "$work/second" || fail "the same sources made another image"
say "images made twice, with the same files: $(grep -c . "$work/first") lines of modes, owners and hashes"

start
say "up and healthy: ${everyone[*]}"

payee=$(docker exec "$(container settler-1)" cat /etc/millrace/payee.pub)
client --json load --payee "$payee" --duration 18s --rate 200 --payers 16 --ledger "$work/run.ndjson" --close \
    >"$work/load.json" 2>"$work/load.err" &
load=$!
await 20 "payments through the front door" paid_beyond 200
say "$(acknowledged) payments acknowledged"

tilt/kill-leader.sh compose | tee "$work/kill"
before=$(acknowledged)
await 10 "payments after the leader was killed" paid_beyond $((before + 200))

docker kill "$(container relayer-1)" >/dev/null
before=$(acknowledged)
await 10 "payments after a relayer was killed" paid_beyond $((before + 200))
docker start "$(container relayer-1)" >/dev/null
say "killed relayer-1: $(acknowledged) payments acknowledged, and more come"

wait "$load" || {
    cat "$work/load.err" >&2
    fail "the load failed"
}
load=
# Whatever was killed, the front door had an answer for every payer: nothing unknown, nothing refused.
answers=$(sed 's/.*"outcomes":{\([^}]*\)}.*/\1/' "$work/load.json" | tr -d '"')
say "answers: $answers"
case $(echo "$answers" | tr ',' '\n' | cut -d: -f1 | sort | tr '\n' ' ') in
'accepted ' | 'accepted duplicate ') ;;
*) fail "payers were told something else than accepted or duplicate" ;;
esac
tilt/load.sh compose --transport stream --payments 500 --payers 8 --json >"$work/stream.json" 2>/dev/null ||
    fail "payments over a WebSocket connection through the front door failed"
grep -q '"acknowledged":500' "$work/stream.json" || fail "not all payments of the stream: $(cat "$work/stream.json")"

await 30 "every channel closed" client audit --ledger "$work/run.ndjson" --expect-closed
client audit --ledger "$work/run.ndjson" --expect-closed
tilt/audit.sh compose --expect-closed >"$work/audit" 2>/dev/null || fail "the audit with the journal: $(cat "$work/audit")"

targets() {
    curl --silent "http://127.0.0.1:$MILLRACE_PORT_PROMETHEUS/api/v1/query?query=sum(up)" | grep -q '"5"'
}
await 20 "Prometheus sees two relayers, two settlers and the issuer" targets
if [ -f tilt/prometheus/alerts.yaml ]; then
    curl --silent "http://127.0.0.1:$MILLRACE_PORT_PROMETHEUS/api/v1/rules" | grep -q '"alerting"' ||
        fail "Prometheus has not taken the alerts"
fi
say "audited; Prometheus sees all five"

compose stop >/dev/null 2>&1
for service in relayer-1 relayer-2 settler-1 settler-2 issuer; do
    expect "$service, asked to stop, exits with" 0 \
        "$(docker inspect --format '{{.State.ExitCode}}' "$(container "$service")")"
done
say "all drained within their grace and exited with 0"

start
expect "the payee after a restart" "$payee" "$(docker exec "$(container settler-1)" cat /etc/millrace/payee.pub)"
client audit --ledger "$work/run.ndjson" --expect-closed >/dev/null || fail "the books did not survive a restart"

# A rebuilt program goes into the running container, as Tilt does it, and no image is made.
compose --file "$here/compose.tilt.yaml" up --detach --no-deps relayer-1 >/dev/null 2>&1 ||
    fail "compose.tilt.yaml does not fit compose.yaml"
relayer=$(container relayer-1)
printf 'rebuilt' | cat target/image/bin/relayer - >"$work/relayer"
chmod 755 "$work/relayer"
docker cp "$work/relayer" "$relayer:/opt/millrace/bin/relayer"
docker restart "$relayer" >/dev/null
await 20 "relayer-1 healthy with its rebuilt program" healthy relayer-1
expect "the program in the container ends in" rebuilt \
    "$(docker exec "$relayer" sh -c 'tail -c 7 /opt/millrace/bin/relayer')"
say "kept keys and books over a restart; took a rebuilt program without a new image"
