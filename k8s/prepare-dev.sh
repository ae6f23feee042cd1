#!/bin/sh
# Makes what the overlay dev takes for granted: the namespace, the keys of payee and issuer as Secrets, and their public
# halves as a ConfigMap. Run again, it keeps the keys that are there. Needs kubectl, with a context that points to the
# cluster, and millrace (MILLRACE names another one than that in the PATH).
set -eu

millrace=${MILLRACE:-millrace}
here=$(dirname "$0")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM

kubectl apply -f "$here/base/namespace.yaml"

# keep SECRET FILE: prints the public half of the key in the Secret, which is made where it does not exist.
keep() {
    if kubectl -n millrace get secret "$1" >/dev/null 2>&1; then
        kubectl -n millrace get secret "$1" -o "jsonpath={.data.$(echo "$2" | sed 's/\./\\./')}" | base64 -d >"$dir/$2"
        chmod 600 "$dir/$2"
    else
        "$millrace" keys new "$dir/$2" >/dev/null
        kubectl -n millrace create secret generic "$1" --from-file="$2=$dir/$2" >&2
    fi
    "$millrace" keys show "$dir/$2"
}
payee=$(keep millrace-payee payee.key)
issuer=$(keep millrace-issuer issuer.key)
kubectl -n millrace create configmap millrace-identity --from-literal=payee="$payee" --from-literal=issuer="$issuer" \
    --dry-run=client -o yaml | kubectl apply -f -
echo "prepare-dev: payee $payee, issuer $issuer"
