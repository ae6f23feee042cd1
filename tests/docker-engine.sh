# shellcheck shell=sh
# For scripts that need a Docker engine: `. tests/docker-engine.sh`, set $me to the script's name, call engine_up, and
# engine_down at the end. Uses the engine that answers. Where none does, and this is root, it installs what is missing
# from distribution packages, starts one, and stops it again at the end.

engine=
engine_log=

engine_fail() {
    echo "${me:-docker-engine}: $*" >&2
    exit 1
}

engine_answers() {
    docker version --format '{{.Server.Version}}' >/dev/null 2>&1
}

# Installs the named packages, as root on a machine with apt.
apt_install() {
    [ "$(id -u)" = 0 ] || engine_fail "missing: $*; only root can install that"
    command -v apt-get >/dev/null || engine_fail "missing: $*; and there is no apt-get to install it with"
    echo "${me:-docker-engine}: installing $*"
    # A package list may be missing or old: fetched only if the first attempt says so.
    apt_quietly "$@" || { apt-get update -qq && apt_quietly "$@"; } || engine_fail "apt-get could not install $*"
}

apt_quietly() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends "$@" \
        >/dev/null 2>&1
}

# Starts an engine with the given options; false if it ends before it answers.
engine_start() {
    dockerd "$@" >"$engine_log" 2>&1 &
    engine=$!
    tries=0
    until engine_answers; do
        kill -0 "$engine" 2>/dev/null || { engine=; return 1; }
        tries=$((tries + 1))
        [ "$tries" -lt 300 ] || return 1
        sleep 0.2
    done
    echo "${me:-docker-engine}: started dockerd $*"
}

# Waits for an engine that was told to stop and no longer answers: until it has ended, none can be started, and the
# attempts with other options would be mistaken for what this machine needs.
engine_is_gone() {
    tries=0
    while [ -s /var/run/docker.pid ] && kill -0 "$(cat /var/run/docker.pid)" 2>/dev/null; do
        tries=$((tries + 1))
        [ "$tries" -lt 150 ] || engine_fail "a dockerd runs and does not answer"
        sleep 0.2
    done
}

# engine_up DIRECTORY-FOR-THE-LOG
engine_up() {
    engine_log=$1/dockerd.log
    command -v docker >/dev/null || apt_install docker.io
    engine_answers && return 0
    [ "$(id -u)" = 0 ] || engine_fail "no Docker engine answers, and only root can start one"
    command -v dockerd >/dev/null || apt_install docker.io
    engine_is_gone
    # A machine without usable iptables or overlay file system, such as a container, needs the later attempts.
    engine_start || engine_start --iptables=false || engine_start --iptables=false --storage-driver=vfs || {
        tail -n 20 "$engine_log" >&2
        engine_fail "dockerd does not come up; its last lines are above"
    }
}

engine_down() {
    [ -n "$engine" ] || return 0
    kill "$engine" 2>/dev/null || true
    wait "$engine" 2>/dev/null || true
    engine=
}
