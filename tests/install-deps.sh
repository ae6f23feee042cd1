#!/bin/sh
# Installs what Millrace needs beside Rust: a Redis server, a C compiler for the embedded SQL database, and PostgreSQL's
# server for the tests of an issuer on it. Does nothing where all are there. Called by `make`.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

has_redis() { [ -n "${REDIS_SERVER_BIN:-}" ] || has redis-server || has valkey-server; }

# Debian has its server out of PATH, by version; the tests look in the same places (issuer/tests/it/harness/server.rs).
has_postgres() {
    [ -n "${POSTGRES_BIN_DIR:-}" ] && return
    for initdb in /usr/lib/postgresql/*/bin/initdb; do [ -x "$initdb" ] && return; done
    has pg_config && [ -x "$(pg_config --bindir)/initdb" ]
}

missing=""
has_redis || missing="$missing redis-server"
has_postgres || missing="$missing postgresql"
has cc || has gcc || has clang || missing="$missing c-compiler"
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
elif has brew; then
    case "$missing" in *redis-server*) brew install redis ;; esac
    case "$missing" in *postgresql*) brew install postgresql ;; esac
    case "$missing" in *c-compiler*) xcode-select --install ;; esac
else
    echo "missing:$missing" >&2
    echo "install Redis 6.2 or newer (or Valkey), PostgreSQL 13 or newer and a C compiler with this system's" >&2
    echo "package manager; what is not found then can be named in REDIS_SERVER_BIN and POSTGRES_BIN_DIR" >&2
    exit 1
fi
has_postgres || { echo "still no PostgreSQL server; name the directory of initdb in POSTGRES_BIN_DIR" >&2; exit 1; }
has_redis || { echo "still no redis-server in PATH; name one in REDIS_SERVER_BIN" >&2; exit 1; }
