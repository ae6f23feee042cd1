#!/bin/sh
# Prints all that an overlay consists of.
#
#   k8s/render.sh dev | kubectl apply -f -
#
# With the kustomize inside kubectl (1.21 or newer), or else a kustomize of its own. Not `kubectl apply -k`: the
# configuration files of the project's root are above the overlay, and that takes a flag which apply does not have.
set -eu

[ $# -eq 1 ] && [ -f "$(dirname "$0")/overlays/$1/kustomization.yaml" ] || {
    echo "usage: k8s/render.sh dev|prod|prod-gateway" >&2
    exit 1
}
overlay=$(dirname "$0")/overlays/$1

if command -v kubectl >/dev/null && kubectl kustomize --help 2>/dev/null | grep -q -- --load-restrictor; then
    exec kubectl kustomize --load-restrictor LoadRestrictionsNone "$overlay"
elif command -v kustomize >/dev/null; then
    exec kustomize build --load-restrictor LoadRestrictionsNone "$overlay"
fi
echo "render: needs kubectl 1.21 or newer, or kustomize 4 or newer" >&2
exit 1
