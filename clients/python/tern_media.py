"""Bytes of media, beside the connection: uploads by tus 1.0 (tuspy), downloads by links. Written from docs/PROTOCOL.md, section 22.

It knows neither chats nor state: who sends a message with what was uploaded is `tern.Device`.
"""

import base64
import contextlib
import hashlib
import http.client
import os
import ssl
import time
import urllib.error
import urllib.request

from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

import tern_pb2 as pb

# What is sent in one request: tuspy holds that much in memory.
PIECE_BYTES = 4 << 20
# How often something that was cut off is tried again, and how long between.
TRIES, AGAIN_S = 5, 1
TIMEOUT_S = 30.0
# Bytes of a file that are read at once.
READ_BYTES = 1 << 16


class Refused(Exception):
    """The server does not take a medium, or does not give it. `status` is HTTP's; section 22 says what then."""

    def __init__(self, status, detail):
        super().__init__(f"{status}: {detail}")
        self.status = status


def upload(device, ca_file, path, filetype, piece_bytes=PIECE_BYTES):
    """Uploads a file, and gives what it is called: 16 bytes, for `Device.send_medium`. Its type is as RFC 6838 names it.
    It is there for a day; with a message that it goes with, for as long as that."""
    place = device.ask(pb.AboutMedia())
    client = TusClient(place.url.rstrip("/") + "/uploads", {"Authorization": f"Bearer {place.access_token}"})
    metadata = {"filetype": filetype, "sha256": digest_of(path).hex()}
    with trusting(ca_file):
        try:
            uploader = client.uploader(
                path,
                chunk_size=piece_bytes,
                metadata=metadata,
                retries=TRIES,
                retry_delay=AGAIN_S,
                upload_checksum=True,
            )
            uploader.upload()
        except TusCommunicationError as error:
            raise Refused(error.status_code, (error.response_content or b"").decode(errors="replace")) from error
    name = uploader.url.rsplit("/", 1)[-1]
    return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4))


@contextlib.contextmanager
def trusting(ca_file):
    """Has requests trust the certificates of a file, as they are trusted beside it: tuspy can be told to trust all or the
    system's, and nothing else."""
    name, before = "REQUESTS_CA_BUNDLE", os.environ.get("REQUESTS_CA_BUNDLE")
    if ca_file is not None:
        os.environ[name] = ca_file
    try:
        yield
    finally:
        if before is not None:
            os.environ[name] = before
        elif ca_file is not None:
            del os.environ[name]


def download(device, ca_file, place, path, sha256=None):
    """Saves a medium that goes with a message: `place` is chat, seq and medium. What is in the file already is taken for its
    beginning, and what is cut off goes on. Gives the bytes that came. With `sha256` nothing else is taken for it."""
    context = ssl.create_default_context(cafile=ca_file)
    before = os.path.getsize(path) if os.path.exists(path) else 0
    tries, done = 0, before
    while True:
        try:
            take_rest(device, context, place, path)
            break
        except (OSError, http.client.HTTPException) as error:
            here = os.path.getsize(path) if os.path.exists(path) else 0
            tries = 0 if here > done else tries + 1
            done = here
            if tries > TRIES:
                raise error
            time.sleep(AGAIN_S)
    if sha256 is not None and digest_of(path) != sha256:
        raise ValueError(f"{path} is not what its sender says")
    return os.path.getsize(path) - before


def take_rest(device, context, place, path):
    """Asks for a link, and takes what is behind the file's end."""
    chat, seq, medium = place
    link = device.ask(pb.GetMedium(chat=chat, seq=seq, medium=medium))
    with open(path, "ab") as file:
        begins = file.tell()
        request = urllib.request.Request(link.url, headers={"Range": f"bytes={begins}-"})
        try:
            answer = urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context)
        except urllib.error.HTTPError as error:
            with error:
                # There is nothing behind the last byte.
                if error.code == 416 and error.headers.get("Content-Range") == f"bytes */{begins}":
                    return
                if error.code >= 500:
                    raise  # It may be otherwise the next time.
                raise Refused(error.code, error.read(READ_BYTES).decode(errors="replace")) from error
        with answer:
            part = answer.headers.get("Content-Range", "")
            if answer.status != 206 or not part.startswith(f"bytes {begins}-"):
                raise ValueError(f"the server gives another part than was asked for: {part}")
            while piece := answer.read(READ_BYTES):
                file.write(piece)
        if file.tell() != int(part.rsplit("/", 1)[-1]):
            raise http.client.IncompleteRead(b"")


def digest_of(path):
    """The SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(READ_BYTES):
            digest.update(piece)
    return digest.digest()
