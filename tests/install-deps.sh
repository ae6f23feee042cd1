#!/bin/sh
# Installs what Millrace needs beside Rust: a Redis server, a C compiler for the embedded SQL database, and for the tests of
# the console (`install-deps.sh test`) a Chromium.
# Does nothing where they are there. Called by `make`.
set -eu

has() { command -v "$1" >/dev/null 2>&1; }

has_chromium() {
    [ -n "${CHROMIUM_BIN:-}" ] || has chromium || has chromium-browser || has google-chrome || has google-chrome-stable
}

has_redis() { [ -n "${REDIS_SERVER_BIN:-}" ] || has redis-server || has valkey-server; }

missing=""
has_redis || missing="$missing redis-server"
has cc || has gcc || has clang || missing="$missing c-compiler"
[ "${1:-}" != test ] || has_chromium || missing="$missing chromium"
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
    case "$missing" in *chromium*) brew install --cask chromium ;; esac
    case "$missing" in *c-compiler*) xcode-select --install ;; esac
else
    echo "missing:$missing" >&2
    echo "install Redis 6.2 or newer (or Valkey) and a C compiler with this system's package manager;" >&2
    echo "a server that is not in PATH can be named in REDIS_SERVER_BIN, a browser in CHROMIUM_BIN" >&2
    exit 1
fi
has_redis || { echo "still no redis-server in PATH; name one in REDIS_SERVER_BIN" >&2; exit 1; }
