#!/bin/sh
# Puts the programs of this machine's own build where the images take them from: target/image.
#
#   tilt/stage.sh [debug|release]
#
# Without debug information, but with the names of functions, which profiles show; and with a time that follows from the
# content: the same program makes the same layer, and another one of the same size is seen to be another, for builders go
# by size and time. A program that has not changed is left alone: whoever watches the directory sees only what is new.
set -eu

cd "$(dirname "$0")/.."
profile=${1:-debug}
image=target/image
mkdir -p "$image/bin" "$image/state"

for program in relayer settler issuer millrace; do
    from=target/$profile/$program
    [ -x "$from" ] || {
        echo "stage: there is no $from; build it: cargo build --locked --workspace --bins" >&2
        exit 1
    }
    # Not in bin/, where a half-written program could be taken for a whole one.
    strip --strip-debug -o "$image/.$program" "$from"
    chmod 755 "$image/.$program"
    touch --date="@$(($(cksum <"$image/.$program" | cut -d" " -f1) % 1500000000))" "$image/.$program"
    if cmp -s "$image/.$program" "$image/bin/$program"; then
        rm "$image/.$program"
    else
        mv "$image/.$program" "$image/bin/$program"
        echo "stage: $program, $(wc -c <"$image/bin/$program" | awk '{ print int($1 / 1e6) }') MB"
    fi
done
touch --date=@0 "$image/bin" "$image/state" "$image"
