# shellcheck shell=sh
# What the buttons share: `. "$here/lib.sh"` with $form set to compose or kubernetes.

here=${here-$(cd "$(dirname "$0")" && pwd)}
namespace=${MILLRACE_NAMESPACE:-millrace}

fail() {
    echo "$(basename "$0" .sh): $*" >&2
    exit 1
}

# The ports of the table, where the environment does not say otherwise.
while IFS='=' read -r name value; do
    case $name in
    MILLRACE_*) eval "[ -n \"\${$name-}\" ] || $name=\$value" ;;
    esac
done <"$here/.env"

# Compose 2 is a part of docker, 1.29 a program of its own.
compose() {
    if docker compose version >/dev/null 2>&1; then
        docker compose --project-name "${COMPOSE_PROJECT_NAME:-millrace}" --project-directory "$here" \
            --file "$here/compose.yaml" "$@"
    else
        docker-compose --project-name "${COMPOSE_PROJECT_NAME:-millrace}" --project-directory "$here" \
            --env-file "$here/.env" --file "$here/compose.yaml" "$@"
    fi
}

# container SERVICE: its id, running or not.
container() {
    docker ps --all --quiet --filter "label=com.docker.compose.project=${COMPOSE_PROJECT_NAME:-millrace}" \
        --filter "label=com.docker.compose.service=$1" --filter label=com.docker.compose.oneoff=False
}

# The command line: in the network of the containers, or on this machine through the ports that Tilt forwards.
millrace() {
    case $form in
    compose) compose run --rm -T tools "$@" ;;
    kubernetes)
        MILLRACE_ISSUER_URL=http://127.0.0.1:$MILLRACE_PORT_ISSUER \
            MILLRACE_RELAYER_URLS=http://127.0.0.1:$MILLRACE_PORT_FRONT \
            MILLRACE_REDIS_URL=redis://127.0.0.1:$MILLRACE_PORT_REDIS \
            "$here/../target/debug/millrace" "$@"
        ;;
    esac
}

# The public key of who is paid.
payee() {
    case $form in
    compose) compose run --rm -T --entrypoint cat tools /etc/millrace/payee.pub ;;
    kubernetes)
        if [ -n "${MILLRACE_PAYEE-}" ]; then
            echo "$MILLRACE_PAYEE"
        else
            kubectl --namespace "$namespace" get configmap millrace-identity --output 'jsonpath={.data.payee}'
        fi
        ;;
    esac
}

# Every settler: containers or pods, one a line.
settlers() {
    case $form in
    compose) printf 'settler-1\nsettler-2\n' ;;
    kubernetes)
        kubectl --namespace "$namespace" get pods --field-selector status.phase=Running --output name |
            sed -n 's|^pod/\(settler-\)|\1|p'
        ;;
    esac
}

# status SETTLER: what its admin listener says of who leads.
status() {
    case $form in
    compose)
        case $1 in
        settler-1) port=$MILLRACE_PORT_SETTLER_1_ADMIN ;;
        *) port=$MILLRACE_PORT_SETTLER_2_ADMIN ;;
        esac
        curl --silent --max-time 2 "http://127.0.0.1:$port/status"
        ;;
    kubernetes) kubectl get --raw "/api/v1/namespaces/$namespace/pods/$1:8091/proxy/status" 2>/dev/null ;;
    esac
}

# The settler that leads, or nothing.
leader() {
    for settler in $(settlers); do
        case $(status "$settler") in
        *'"leader":true'*)
            echo "$settler"
            return
            ;;
        esac
    done
}

# await SECONDS WHAT COMMAND…: until the command succeeds.
await() {
    deadline=$(($(date +%s) + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ "$(date +%s)" -lt "$deadline" ] || fail "not in time: $what"
        sleep 0.1
    done
}

case ${form-} in
compose | kubernetes) ;;
*) fail "say which stack: compose or kubernetes" ;;
esac
