#!/bin/sh
# Installs what Millrace needs beside Rust: a Redis server, and a C compiler with make for the embedded SQL database and
# the allocator. With --test also what tests run beside it: PostgreSQL, nginx, HAProxy, Prometheus, Chromium,
# systemd-analyze, Python with venv, curl. Does nothing where all is there. Called by `make`.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

has_redis() { [ -n "${REDIS_SERVER_BIN:-}" ] || has redis-server || has valkey-server; }

# Debian has its server out of PATH, by version; the tests look in the same places (issuer/tests/it/harness/server.rs).
has_postgres() {
    [ -n "${POSTGRES_BIN_DIR:-}" ] && return
    for initdb in /usr/lib/postgresql/*/bin/initdb; do [ -x "$initdb" ] && return; done
    has pg_config && [ -x "$(pg_config --bindir)/initdb" ]
}

has_prometheus() { has prometheus && has promtool; }

has_chromium() {
    [ -n "${CHROMIUM_BIN:-}" ] || has chromium || has chromium-browser || has google-chrome || has google-chrome-stable
}

# Balancers lie where only administrators look.
has_balancer() { has "$1" || [ -x "/usr/sbin/$1" ]; }

missing=""
has_redis || missing="$missing redis-server"
{ has cc || has gcc || has clang; } && has make || missing="$missing c-compiler"
if [ "${1-}" = --test ]; then
    has_postgres || missing="$missing postgresql"
    has_prometheus || missing="$missing prometheus"
    has_chromium || missing="$missing chromium"
    has_balancer nginx || missing="$missing nginx-light"
    has_balancer haproxy || missing="$missing haproxy"
    has systemd-analyze || missing="$missing systemd"
    python3 -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    has curl || missing="$missing curl"
fi
if ! has cargo; then
    echo "cargo is missing: install Rust first (see the Rust project's own pages), then run make again" >&2
    exit 1
fi
[ -n "$missing" ] || exit 0

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif has sudo; then
        sudo "$@"
    else
        echo "missing:$missing; run as root: $*" >&2
        exit 1
    fi
}

echo "installing:$missing" >&2
if has apt-get; then
    packages=$(echo "$missing" | sed 's/c-compiler/build-essential/')
    as_root apt-get update -qq
    # shellcheck disable=SC2086  # one word a package
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $packages
    # Tests start servers of their own; the machine's, which the packages start, would only be in somebody's way.
    for server in nginx haproxy prometheus; do
        case "$missing" in
        *"$server"*) ! [ -d /run/systemd/system ] || as_root systemctl disable --quiet --now "$server" ;;
        esac
    done
elif has brew; then
    case "$missing" in *redis-server*) brew install redis ;; esac
    case "$missing" in *postgresql*) brew install postgresql ;; esac
    case "$missing" in *prometheus*) brew install prometheus ;; esac
    case "$missing" in *chromium*) brew install --cask chromium ;; esac
    case "$missing" in *c-compiler*) xcode-select --install ;; esac
    case "$missing" in *nginx*) brew install nginx ;; esac
    case "$missing" in *haproxy*) brew install haproxy ;; esac
    case "$missing" in *" systemd"*) echo "systemd-analyze is for Linux alone: tests/tests/systemd_units.rs fails" >&2 ;; esac
else
    echo "missing:$missing" >&2
    echo "install these with this system's package manager (Redis 6.2 or newer or Valkey, PostgreSQL 13 or newer); what is" >&2
    echo "not in PATH then can be named in REDIS_SERVER_BIN, POSTGRES_BIN_DIR and CHROMIUM_BIN" >&2
    exit 1
fi
has_redis || { echo "still no redis-server in PATH; name one in REDIS_SERVER_BIN" >&2; exit 1; }
