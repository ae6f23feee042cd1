#!/bin/sh
# Draws where a relayer's time goes while row `single` of the benchmarks pays, as docs/benchmarks/profile.svg, and prints
# the share of each part.
#
#   cli/benches/profile.sh
#
# Needs Linux' perf (Debian: linux-perf), the right to use it, and `cargo install inferno`.
set -eu
cd "$(dirname "$0")/../.."

# Another build of the benchmarks than that of `make bench`, if there is one already.
bench=${BENCH:-cargo bench --quiet --locked -p cli --bench bench --}
warm_up_s=6
sample_s=4
frequency_hz=999
stack_bytes=16384

for tool in perf inferno-collapse-perf inferno-flamegraph; do
    command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

[ -n "${BENCH:-}" ] || cargo bench --quiet --locked -p cli --bench bench --no-run
$bench --rows single --no-write >"$work/bench.log" 2>&1 &
running=$!
relayer=""
while [ -z "$relayer" ]; do
    kill -0 "$running" 2>/dev/null || { cat "$work/bench.log" >&2; exit 1; }
    relayer=$(pgrep -f 'millrace.* relayer$' || true)
    sleep 0.2
done
sleep "$warm_up_s"
relayer=$(pgrep -f 'millrace.* relayer$' | head -n 1)
perf record -q -o "$work/perf" -F "$frequency_hz" --call-graph "dwarf,$stack_bytes" -p "$relayer" -- sleep "$sample_s"
wait "$running"

perf script --no-inline -i "$work/perf" 2>/dev/null | inferno-collapse-perf --kernel >"$work/stacks" 2>/dev/null
# Narrow frames say nothing and are most of the file.
inferno-flamegraph --minwidth 0.4 --title "CPU of a relayer, single payments" --countname samples \
    <"$work/stacks" >docs/benchmarks/profile.svg

# Each stack counts for the first part whose pattern is in it.
awk '
{
    total += $NF
    if (/verify_strict|curve25519|sha2::/) part = "signature check"
    else if (/_\[k\]/) part = "kernel: sockets, wake-ups"
    else if (/fred::|redis_protocol/) part = "client of Redis"
    else if (/store::accept|accept_call|batcher/) part = "gathering and recording vouchers"
    else if (/from_json|serde_json|five8|PaymentRequest|PaymentAnswer/) part = "JSON and base58"
    else if (/moka|Channels/) part = "terms of the channel"
    else if (/prometheus|Ticket|metrics/) part = "metrics"
    else if (/hyper::|httparse|http::/) part = "hyper: HTTP/1.1"
    else if (/axum|tower|relayer::/) part = "routing and handler"
    else if (/tokio::/) part = "tokio"
    else part = "other"
    sum[part] += $NF
}
END { for (part in sum) printf "%5.1f %%  %s\n", 100 * sum[part] / total, part | "sort -rn" }' "$work/stacks"
