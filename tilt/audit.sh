#!/bin/sh
# Does the money add up: Redis against the issuer's books and, with Compose, against the journal. Exit code 1 if not.
#
#   tilt/audit.sh compose|kubernetes [options of millrace audit]
set -eu
form=${1-}
. "$(dirname "$0")/lib.sh"
shift

case $form in
compose) millrace audit --journal journal "$@" ;;
kubernetes) millrace audit "$@" ;;
esac
