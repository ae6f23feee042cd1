#!/bin/sh
# Makes the Redis image of the harness's container tier from distribution packages, so that no image registry is asked.
#
#   tests/redis-image.sh [--force]
#
# MILLRACE_TEST_REDIS_IMAGE names the image (default millrace-test-redis:local). Does nothing when the image exists,
# unless --force is given. It is millrace-parts:local of tilt/base-image.sh, which this makes first, with a command of
# its own: what is said there of root and the machine holds here too.
set -eu

image=${MILLRACE_TEST_REDIS_IMAGE:-millrace-test-redis:local}
here=$(dirname "$0")

fail() {
    echo "redis-image: $*" >&2
    exit 1
}

case ${1-} in
'' | --force) ;;
*) fail "unknown argument $1; usage: tests/redis-image.sh [--force]" ;;
esac

command -v docker >/dev/null || fail "there is no docker command; install a Docker client and engine"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    fail "no Docker engine answers; start one (tests/docker-tier.sh does, as root)"
if [ "${1-}" != --force ] && docker image inspect "$image" >/dev/null 2>&1; then
    echo "redis-image: $image exists"
    exit 0
fi

# shellcheck disable=SC2086 # no argument or one
"$here/../tilt/base-image.sh" ${1-}

# Every test gives its own options behind this command's name; the default is a plain server for a look by hand.
# A commit and not a build: builders want a builder, and this needs none.
container=$(docker create millrace-parts:local true)
docker commit \
    --change 'WORKDIR /data' \
    --change 'EXPOSE 6379' \
    --change 'CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data"]' \
    "$container" "$image" >/dev/null || fail "docker commit failed"
docker rm "$container" >/dev/null
docker run --rm "$image" redis-server --version || fail "the image $image was made but its redis-server does not run"
echo "redis-image: made $image"
