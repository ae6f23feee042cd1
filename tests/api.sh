#!/bin/sh
# Checks what services serve against what they say of it: both descriptions are valid OpenAPI and those in docs/schema,
# schemathesis finds no answer that they do not describe, and the commands of docs/API.md do what the page says.
#
#   tests/api.sh
#
# Needs the programs of this build (cargo build --workspace --bins), redis-server, curl, and python3 with venv. What it
# installs goes to target/api-tools. What cannot be had makes it fail.
set -eu
cd "$(dirname "$0")/.."

tools=$PWD/target/api-tools
bin=${MILLRACE_BIN_DIR:-$PWD/target/debug}
packages="schemathesis==4.32.5 openapi-spec-validator==0.9.0 cryptography==50.0.2"
# What is tried follows from the seed and the descriptions alone; both runs together are to stay below a minute and a half.
seed=1
examples=100

fail() {
    echo "api: $*" >&2
    exit 1
}

[ -x "$bin/millrace" ] || fail "$bin/millrace is not built: cargo build --workspace --bins"
command -v curl >/dev/null || fail "curl is needed"
mkdir -p "$tools"
if [ "$(cat "$tools/packages" 2>/dev/null)" != "$packages" ]; then
    rm -rf "$tools/venv"
    python3 -m venv "$tools/venv" || fail "python3 with venv is needed (Debian: python3-venv)"
    # shellcheck disable=SC2086  # one word a package
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check $packages || fail "$packages could not be installed"
    echo "$packages" >"$tools/packages"
fi

work=$(mktemp -d)
stack=
stop() {
    status=$?
    # A stack that is asked to stop stops its parts; its logs are of use only where something failed.
    if [ -n "$stack" ]; then
        kill -INT "$stack" 2>/dev/null || true
        wait "$stack" || true
    fi
    [ "$status" -eq 0 ] || tail -n 20 "$work"/stack.err "$work"/stack/*.log 2>/dev/null >&2 || true
    rm -rf "$work"
    exit "$status"
}
trap stop EXIT
trap 'exit 1' INT TERM

# Ports that nobody is likely to have: below those that systems give out by themselves.
port=$((12000 + $$ % 60 * 300))
# An expired channel is part of what is tried.
MILLRACE_ISSUER__LIMITS__CHANNEL_LIFETIME_MIN_S=1 \
    "$bin/millrace" --json dev --relayers 1 --settlers 1 --port-base "$port" --dir "$work/stack" \
    >"$work/stack.json" 2>"$work/stack.err" </dev/null &
stack=$!
waited=0
while ! [ -s "$work/stack.json" ]; do
    kill -0 "$stack" 2>/dev/null || fail "the stack did not start: $(cat "$work/stack.err")"
    waited=$((waited + 1))
    [ "$waited" -lt 300 ] || fail "the stack was not ready in a minute"
    sleep 0.2
done

API_ISSUER=http://127.0.0.1:$port
API_RELAYER=http://127.0.0.1:$((port + 10))
API_PAYEE=$(cat "$work/stack/payee.pub")
API_SEEN=$work/seen
export API_ISSUER API_RELAYER API_PAYEE API_SEEN

PATH=$bin:$PATH "$tools/venv/bin/python" tests/api_check.py "$work"

# `positive_data_acceptance` is left out: that a signature holds or a channel exists is not for a schema to say. So are the
# checks of credentials and of resources that are made and deleted: there are none.
checks=not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance
checks=$checks,response_schema_conformance,negative_data_rejection,missing_required_header,unsupported_method
checks=$checks,allow_header_conformance

try() {
    description=$1
    shift
    (cd "$work" && SCHEMATHESIS_HOOKS=api_hooks PYTHONPATH=$OLDPWD/tests PYTHONDONTWRITEBYTECODE=1 \
        "$tools/venv/bin/schemathesis" run "$description" --checks "$checks" --phases examples,coverage,fuzzing \
        --seed "$seed" --generation-database none --max-examples "$examples" --request-timeout 20 \
        --no-color "$@")
}

try ./relayer.json --url "$API_RELAYER" --continue-on-failure &&
    try ./issuer.json --url "$API_ISSUER" --continue-on-failure ||
    fail "a service answers what its description does not say, or takes what it should refuse"
"$tools/venv/bin/python" tests/api_check.py --seen "$API_SEEN"

# And a slip would be noticed: a description without an answer that is given is refused.
for slip in no-status other-type; do
    "$tools/venv/bin/python" tests/api_check.py --spoil "$slip" "$work/$slip.json"
    if try "./$slip.json" --url "$API_RELAYER" --include-path '/v1/channels/{id}' >"$work/$slip.log" 2>&1; then
        fail "$slip: an answer that the description does not have was not noticed"
    fi
    grep -q "Undocumented status code\|violates schema" "$work/$slip.log" || {
        cat "$work/$slip.log" >&2
        fail "$slip: it failed for another reason"
    }
done
