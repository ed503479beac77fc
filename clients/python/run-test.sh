#!/bin/sh
# Runs the Python client's test against a running server: makes a virtual environment with protoc, generates tern_pb2
# from the schema, and chats. The environment is kept, so that only the first run needs the network.
#
#   run-test.sh HOST:PORT CA_FILE CODE_COMMAND [CACHE_DIR]
#
# CODE_COMMAND prints the one-time code of the phone that is appended to it as the last argument. TERN_TEST names another
# script of this directory to run in place of tern_chat_test.py.
set -eu

if [ $# -lt 3 ] || [ $# -gt 4 ]; then
    sed -n 's/^#   /usage: /p' "$0" >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(CDPATH='' cd -- "$here/../.." && pwd)
cache=${4:-$root/target/python-venv}

if ! cmp -s "$here/requirements.txt" "$cache/installed.txt"; then
    python3 -m venv "$cache"
    "$cache/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$cache/installed.txt"
fi
if ! cmp -s "$root/proto/schema/tern.proto" "$cache/generated/tern.proto"; then
    mkdir -p "$cache/generated"
    "$cache/bin/python" -m grpc_tools.protoc --proto_path="$root/proto/schema" --python_out="$cache/generated" tern.proto
    cp "$root/proto/schema/tern.proto" "$cache/generated/tern.proto"
fi
PYTHONPATH="$cache/generated" PYTHONDONTWRITEBYTECODE=1 exec "$cache/bin/python" "$here/${TERN_TEST:-tern_chat_test.py}" \
    --server "$1" --ca "$2" --code-command "$3"
