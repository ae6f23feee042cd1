#!/bin/sh
# Evaluates both Tiltfiles and checks what they ask for: paths, ports, images, buttons, the one cluster that they touch.
# Tilt itself is not needed; the interpreter of its language comes as a Python package, into target/.
set -eu

cd "$(dirname "$0")/.."
me=tiltfiles
. tests/docker-engine.sh

python=target/tiltfiles/bin/python
packages="starlark-pyo3==2026.1.3 pyyaml==6.0.2"
if ! "$python" -c 'import starlark, yaml' 2>/dev/null; then
    rm -rf target/tiltfiles
    mkdir -p target
    # Debian keeps the module that makes environments in a package of its own.
    python3 -m venv target/tiltfiles 2>/dev/null || {
        apt_install python3-venv
        python3 -m venv target/tiltfiles
    }
    # shellcheck disable=SC2086 # one word a package
    "$python" -m pip install --quiet --disable-pip-version-check $packages
fi
"$python" tests/tiltfiles/evaluate.py

# "Kill the leader" on Kubernetes, with a stand-in for kubectl that knows two settlers: the one that leads is deleted,
# and the other one is then found to lead.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cat >"$work/kubectl" <<'KUBECTL'
#!/bin/sh
state=$(dirname "$0")/deleted
case "$*" in
*"get pods"*) printf 'pod/relayer-1\npod/settler-a\npod/settler-b\n' ;;
*"get --raw"*settler-a*) if [ -e "$state" ]; then exit 1; else echo '{"leader":true}'; fi ;;
*"get --raw"*settler-b*) if [ -e "$state" ]; then echo '{"leader":true}'; else echo '{"leader":false}'; fi ;;
*"delete pod settler-a --grace-period=0 --force"*) touch "$state" ;;
*) exit 2 ;;
esac
KUBECTL
chmod +x "$work/kubectl"
PATH=$work:$PATH tilt/kill-leader.sh kubernetes >"$work/said"
case $(cat "$work/said") in
"killed settler-a, which led"*"settler-b leads "*" ms after the kill") echo "tiltfiles: $(tail -n 1 "$work/said")" ;;
*)
    cat "$work/said" >&2
    echo "tiltfiles: the leader was not killed on Kubernetes" >&2
    exit 1
    ;;
esac
