#!/bin/sh
# Runs upload.py in a virtual environment, which is kept: only the first run needs the network.
#
#   TERN_CA=FILE run.sh CACHE_DIR URL TOKEN FILE TYPE
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=$1
shift
if ! cmp -s "$here/requirements.txt" "$cache/installed.txt"; then
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/installed.txt"
fi
REQUESTS_CA_BUNDLE=$TERN_CA PYTHONDONTWRITEBYTECODE=1 exec "$cache/bin/python" "$here/upload.py" "$@"
