#!/bin/sh
# Runs a program of a virtual environment that has an S3 server and a client, which is kept: only the first run needs the network.
#
#   run.sh CACHE_DIR PROGRAM ARGUMENTS...
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
cache=$1
program=$2
shift 2
mkdir -p "$cache"
(
    # Tests that run at once make it once.
    flock 9
    if ! cmp -s "$here/requirements.txt" "$cache/installed.txt"; then
        python3 -m venv "$cache"
        "$cache/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
        cp "$here/requirements.txt" "$cache/installed.txt"
    fi
) 9>"$cache.lock"
PYTHONDONTWRITEBYTECODE=1 exec "$cache/bin/$program" "$@"
