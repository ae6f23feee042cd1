#!/bin/sh
# Makes the Redis image of the harness's container tier from distribution packages, so that no image registry is asked.
#
#   tests/redis-image.sh [--force]
#
# MILLRACE_TEST_REDIS_IMAGE names the image (default millrace-test-redis:local). Does nothing when the image exists,
# unless --force is given. Needs root (debootstrap does), a Debian or Ubuntu machine, and a Docker engine that answers.
set -eu

image=${MILLRACE_TEST_REDIS_IMAGE:-millrace-test-redis:local}
force=no

fail() {
    echo "redis-image: $*" >&2
    exit 1
}

# Prints "mirror suite component,component" of the machine's first binary package source of Debian or Ubuntu itself:
# the one whose components include "main". Reads both formats that apt knows (sources.list(5)).
apt_source() {
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        case $file in
        *.sources)
            awk '
                function flush() {
                    if (types ~ /(^| )deb( |$)/ && uris != "" && components ~ /(^| )main( |$)/ && enabled != "no")
                        print_one()
                    types = uris = suites = components = enabled = ""
                }
                function print_one(  u, s, c) {
                    if (done) return
                    split(uris, u, " "); split(suites, s, " "); c = components; gsub(/ +/, ",", c)
                    print u[1], s[1], c; done = 1
                }
                /^#/ { next }
                /^[ \t]*$/ { flush(); next }
                { sub(/\r$/, ""); key = tolower($1); value = $0; sub(/^[^:]*:[ \t]*/, "", value) }
                key == "types:" { types = value }
                key == "uris:" { uris = value }
                key == "suites:" { suites = value }
                key == "components:" { components = value }
                key == "enabled:" { enabled = tolower(value) }
                END { flush() }
            ' "$file"
            ;;
        *)
            awk '
                $1 == "deb" {
                    sub(/^deb[ \t]+(\[[^]]*\][ \t]+)?/, "")
                    if ($0 !~ /[ \t]main([ \t]|$)/) next
                    c = $3; for (i = 4; i <= NF && $i !~ /^#/; i++) c = c "," $i
                    print $1, $2, c; exit
                }
            ' "$file"
            ;;
        esac
    done | head -n 1
}

for argument in "$@"; do
    case $argument in
    --force) force=yes ;;
    *) fail "unknown argument $argument; usage: tests/redis-image.sh [--force]" ;;
    esac
done

command -v docker >/dev/null || fail "there is no docker command; install a Docker client and engine"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 ||
    fail "no Docker engine answers; start one (tests/docker-tier.sh does, as root)"
if [ "$force" = no ] && docker image inspect "$image" >/dev/null 2>&1; then
    echo "redis-image: $image exists"
    exit 0
fi

[ "$(id -u)" = 0 ] || fail "making the image needs root, for debootstrap"
if ! command -v debootstrap >/dev/null; then
    command -v apt-get >/dev/null || fail "debootstrap is missing, and so is apt-get to install it with"
    apt-get install -y --no-install-recommends debootstrap || fail "apt-get could not install debootstrap"
fi

source=$(apt_source)
[ -n "$source" ] || fail "no package source with a component 'main' under /etc/apt"
# shellcheck disable=SC2086 # three words, meant to be split
set -- $source
mirror=$1 suite=$2 components=$3
case $mirror in
mirror+file:*)
    list=${mirror#mirror+file:}
    mirror=$(awk '!/^#/ && NF { print $1; exit }' "$list")
    [ -n "$mirror" ] || fail "$list names no mirror"
    ;;
esac

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM
echo "redis-image: bootstrapping $suite with redis-server"
debootstrap --variant=minbase --include=redis-server --components="$components" "$suite" "$root/fs" "$mirror" \
    >"$root/debootstrap.log" 2>&1 || {
    tail -n 20 "$root/debootstrap.log" "$root/fs/debootstrap/debootstrap.log" >&2 2>/dev/null || true
    fail "debootstrap failed; its last lines are above"
}
rm -rf "$root/fs/var/cache/apt" "$root/fs/var/lib/apt/lists" "$root/fs/usr/share/doc" "$root/fs/usr/share/man"
mkdir -p "$root/fs/data"

# Every test gives its own options behind this command's name; the default is a plain server for a look by hand.
tar -C "$root/fs" -c . | docker import \
    --change 'WORKDIR /data' \
    --change 'EXPOSE 6379' \
    --change 'CMD ["redis-server", "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", "/data"]' \
    - "$image" >/dev/null || fail "docker import failed"
docker run --rm "$image" redis-server --version || fail "the image $image was made but its redis-server does not run"
echo "redis-image: made $image"
