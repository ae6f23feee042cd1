#!/bin/sh
# Runs the harness's own tests with Redis in containers.
#
#   tests/docker-tier.sh [arguments of cargo nextest run]
#
# Uses the Docker engine that answers; where none does, and this is root, starts one and stops it again at the end
# (tests/docker-engine.sh). Makes the image with tests/redis-image.sh.
set -eu

cd "$(dirname "$0")/.."
me=docker-tier
. tests/docker-engine.sh
work=$(mktemp -d)

cleanup() {
    # Containers of tests that were killed; those that ended have removed theirs.
    left=$(docker ps --all --quiet --filter label=millrace-test 2>/dev/null) || left=
    # shellcheck disable=SC2086 # a list of ids, meant to be split
    [ -z "$left" ] || docker rm --force $left >/dev/null 2>&1 || true
    engine_down
    rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

engine_up "$work"
tests/redis-image.sh
cargo build --workspace --bins
# Of the whole workspace, as the other tests are built: one package by itself has other features, and is built anew.
MILLRACE_TEST_REDIS=docker cargo nextest run --workspace -E 'package(tests) & (kind(lib) | binary(harness))' "$@"
