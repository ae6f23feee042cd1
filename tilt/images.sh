#!/bin/sh
# Makes Millrace's images: millrace-relayer:dev, millrace-settler:dev, millrace-issuer:dev, millrace-tools:dev.
#
#   tilt/images.sh                 builds the programs in an image with Rust
#   tilt/images.sh --prebuilt      takes this machine's own build, put in place by tilt/stage.sh
#
# MILLRACE_RUST_IMAGE, MILLRACE_RUNTIME_IMAGE and MILLRACE_TOOLS_IMAGE replace what they stand on: tilt/no-registry.env
# names images that tilt/base-image.sh makes where no registry can be reached. MILLRACE_BUILD_OPTIONS is passed on.
set -eu

cd "$(dirname "$0")/.."
binaries=built
case ${1-} in
'') ;;
--prebuilt) binaries=prebuilt ;;
*)
    echo "images: unknown argument $1; usage: tilt/images.sh [--prebuilt]" >&2
    exit 1
    ;;
esac

# Stages that are not needed must not be built, and mounts be understood: BuildKit. From 23 on the client has it in a
# plugin that may be missing; before, in itself. Another client in the path may have what the first one lacks.
builder() {
    old_ifs=$IFS
    IFS=:
    for directory in $PATH; do
        client=$directory/docker
        [ -x "$client" ] || continue
        if "$client" buildx version >/dev/null 2>&1; then
            echo "$client"
            break
        fi
        major=$("$client" version --format '{{.Client.Version}}' 2>/dev/null | cut -d. -f1)
        case $major in
        18 | 19 | 20)
            echo "$client"
            break
            ;;
        esac
    done
    IFS=$old_ifs
}

client=$(builder)
[ -n "$client" ] || {
    echo "images: no docker client here can use BuildKit; install its buildx plugin" >&2
    exit 1
}

# add VARIABLE ARGUMENT: hands the variable's value on as a build argument, if it has one.
add() {
    eval "value=\${$1-}"
    [ -z "$value" ] || options="$options --build-arg $2=$value"
}
options="--build-arg BINARIES=$binaries ${MILLRACE_BUILD_OPTIONS-}"
add MILLRACE_RUST_IMAGE RUST_IMAGE
add MILLRACE_RUNTIME_IMAGE RUNTIME_IMAGE
add MILLRACE_TOOLS_IMAGE TOOLS_IMAGE
add SOURCE_DATE_EPOCH SOURCE_DATE_EPOCH

for part in relayer settler issuer tools; do
    # shellcheck disable=SC2086 # options, meant to be split
    DOCKER_BUILDKIT=1 "$client" build --quiet $options --target "$part" --tag "millrace-$part:dev" . >/dev/null
    echo "images: millrace-$part:dev, $(docker image inspect --format '{{.Size}}' "millrace-$part:dev" |
        awk '{ print int($1 / 1e6) }') MB"
done
