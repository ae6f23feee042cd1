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
