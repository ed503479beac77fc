#!/bin/sh
# Runs check.py in a virtual environment, which is kept: only the first run needs the network.
#
#   run.sh CACHE_DIR JSON
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=$1
shift
if ! cmp -s "$here/requirements.txt" "$cache/installed.txt"; then
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet --disable-pip-version-check --require-hashes --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/installed.txt"
fi
PYTHONDONTWRITEBYTECODE=1 exec "$cache/bin/python" "$here/check.py" "$@"
