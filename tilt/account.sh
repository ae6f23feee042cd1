#!/bin/sh
# Runs in the tools image: registers the payee with the issuer, which must have an account before channels to it can be
# opened. Tries again for a minute: on a busy machine the network of a new container may be later than the container.
set -eu

left=60
until millrace account register --public-key "$(cat /etc/millrace/payee.pub)"; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || exit 1
    sleep 1
done
