#!/bin/sh
# Makes images from distribution packages, for where no image registry can be reached:
#
#   millrace-base:local    what Millrace's own images stand on: libc, a shell, the authorities for TLS
#   millrace-parts:local   the same with Redis, nginx and Prometheus, which Compose starts beside them
#
#   tilt/base-image.sh [--force]
#
# Does nothing where both exist, unless --force is given. Needs root (debootstrap does), a Debian or Ubuntu machine, and
# a Docker engine that answers. tilt/no-registry.env has everything use these images.
set -eu

me=base-image
. "$(dirname "$0")/../tests/docker-engine.sh"
base=millrace-base:local
parts=millrace-parts:local
force=no

fail() {
    echo "base-image: $*" >&2
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
    *) fail "unknown argument $argument; usage: tilt/base-image.sh [--force]" ;;
    esac
done

command -v docker >/dev/null || fail "there is no docker command; install a Docker client and engine"
docker version --format '{{.Server.Version}}' >/dev/null 2>&1 || fail "no Docker engine answers"
if [ "$force" = no ] && docker image inspect "$base" "$parts" >/dev/null 2>&1; then
    echo "base-image: $base and $parts exist"
    exit 0
fi

[ "$(id -u)" = 0 ] || fail "making the images needs root, for debootstrap"
command -v debootstrap >/dev/null || apt_install debootstrap

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

work=$(mktemp -d)
root=$work/fs
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# import IMAGE: what is in $root, without what no container needs.
import() {
    tar -C "$root" -c --exclude=./var/cache/apt --exclude=./var/lib/apt/lists --exclude=./usr/share/doc \
        --exclude=./usr/share/man --exclude=./usr/share/locale --exclude='./var/log/*' . |
        docker import - "$1" >/dev/null || fail "docker import failed"
    echo "base-image: made $1, $(docker image inspect --format '{{.Size}}' "$1" | awk '{ print int($1 / 1e6) }') MB"
}

echo "base-image: bootstrapping $suite"
debootstrap --variant=minbase --include=ca-certificates --components="$components" "$suite" "$root" "$mirror" \
    >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" "$root/debootstrap/debootstrap.log" >&2 2>/dev/null || true
    fail "debootstrap failed; its last lines are above"
}
import "$base"

# In a chroot and not in a container, which would need a way out to the mirror of its own.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
chroot "$root" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
    redis-server nginx-light prometheus >"$work/log" 2>&1 || {
    tail -n 20 "$work/log" >&2
    fail "the parts could not be installed; the last lines are above"
}
# The directories and owners that the parts' own images have.
mkdir -p "$root/data" "$root/prometheus"
chown 999:999 "$root/data"
chown 65534:65534 "$root/prometheus"
import "$parts"
docker run --rm --entrypoint redis-server "$parts" --version || fail "$parts was made but its redis-server does not run"
docker run --rm --entrypoint nginx "$parts" -v || fail "$parts was made but its nginx does not run"
