#!/bin/sh
# Runs in the tools image before all else: makes the keys that are not there yet, and the configuration files, which are
# the project's own with the public keys filled in. Run again, it keeps the keys.
set -eu

config=/etc/millrace
keep() {
    [ -f "$1" ] || millrace keys new "$1" >/dev/null
    millrace keys show "$1"
}
issuer=$(keep /run/millrace/issuer/issuer.key)
payee=$(keep /run/millrace/payee/payee.key)
echo "$issuer" >"$config/issuer.pub"
echo "$payee" >"$config/payee.pub"

sed -e "s/^payee: null$/payee: $payee/" -e "s/^  public_key: null$/  public_key: $issuer/" \
    /usr/share/millrace/config.relayer.yaml >"$config/config.relayer.yaml"
sed -e "s/^  public_key: null$/  public_key: $issuer/" \
    /usr/share/millrace/config.settler.yaml >"$config/config.settler.yaml"
cp /usr/share/millrace/config.issuer.yaml "$config/config.issuer.yaml"

# What the services are told by environment, so that a file that would be refused is refused here.
MILLRACE_SETTLER__PAYEE_KEY=file:/run/millrace/payee/payee.key
MILLRACE_ISSUER__SIGNING_KEY=file:/run/millrace/issuer/issuer.key
export MILLRACE_SETTLER__PAYEE_KEY MILLRACE_ISSUER__SIGNING_KEY
for service in relayer settler issuer; do
    millrace config check "$service" --config "$config/config.$service.yaml"
done
echo "init: payee $payee, issuer $issuer"
