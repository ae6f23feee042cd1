#!/bin/sh
# Runs every fuzz target for some seconds each, from the kept corpus in tests/fuzz/corpus.
#
#   tests/fuzz.sh [seconds, 60 if left out] [target ...]
#
# Works with the stable compiler and needs nothing to be installed but a C++ compiler: the coverage that libFuzzer steers
# by is asked of rustc directly, as `cargo fuzz` does it. No address sanitizer: the project has no unsafe code, and
# overflows are checked. As many targets run at once as the machine has cores. What breaks a target is left in
# target/fuzz/artifacts; put a small version of it into the corpus once the fault is mended.
#
# FUZZ_SEED=1 makes a run repeatable: it walks the same way each time, as far as its seconds reach.
#
# To keep what a long run has found: FUZZ_MERGE=1 tests/fuzz.sh 600 makes a least set of new inputs, by coverage, in
# target/fuzz/merged.
set -eu

cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# -eq 0 ] || shift
targets=$*
[ -n "$targets" ] || targets=$(ls tests/fuzz/corpus)

host=$(rustc -vV | sed -n 's/^host: //p')
program=target/fuzz/$host/debug/fuzz

fuzz_one() {
    work=target/fuzz/work/$1
    mkdir -p "$work" "target/fuzz/artifacts/$1"
    if ! MILLRACE_FUZZ_TARGET=$1 "$program" -seed="${FUZZ_SEED:-0}" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=8192 \
        -artifact_prefix="target/fuzz/artifacts/$1/" -print_final_stats=1 \
        "$work" "tests/fuzz/corpus/$1" >"target/fuzz/$1.log" 2>&1; then
        tail -n 40 "target/fuzz/$1.log"
        echo "fuzz: $1 broke; the input is in target/fuzz/artifacts/$1"
        return 1
    fi
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "target/fuzz/$1.log")
    rss=$(sed -n 's/^stat::peak_rss_mb: *//p' "target/fuzz/$1.log")
    echo "fuzz: $1: $runs inputs, at most $rss MiB, nothing found"
    if [ -n "${FUZZ_MERGE:-}" ]; then
        rm -rf "target/fuzz/merged/$1"
        mkdir -p "target/fuzz/merged/$1"
        MILLRACE_FUZZ_TARGET=$1 "$program" -merge=1 -max_len=1024 "target/fuzz/merged/$1" "tests/fuzz/corpus/$1" \
            "$work" >/dev/null 2>&1
    fi
}

if [ "${FUZZ_ONE:-}" = 1 ]; then
    fuzz_one "$targets"
    exit
fi
RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-simplifycfg-branch-fold-threshold=0 \
-Ccodegen-units=1 -Cdebug-assertions -Coverflow-checks=on --cfg fuzzing" \
    cargo build --locked --quiet -p fuzz --features libfuzzer --bin fuzz --target "$host" --target-dir target/fuzz \
    --config 'profile.dev.opt-level=2' --config 'profile.dev.debug="line-tables-only"'

cores=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
failed=0
# shellcheck disable=SC2086 # a list of names, meant to be split
printf '%s\n' $targets | FUZZ_ONE=1 xargs -P "$cores" -I{} "$0" "$seconds" {} || failed=1
exit "$failed"
