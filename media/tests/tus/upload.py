"""Uploads a file by tuspy: a part of it, and the rest as another process of the same client would.

    upload.py URL TOKEN FILE TYPE

Certificates are checked by REQUESTS_CA_BUNDLE. Prints the upload's URL.
"""
import os
import sys

from tusclient.client import TusClient

CHUNK = 256 * 1024


def main() -> None:
    url, token, path, filetype = sys.argv[1:]
    client = TusClient(f"{url}/uploads", headers={"Authorization": f"Bearer {token}"})
    metadata = {"filetype": filetype, "filename": os.path.basename(path)}
    begun = client.uploader(path, chunk_size=CHUNK, metadata=metadata, upload_checksum=True)
    begun.upload(stop_at=2 * CHUNK)
    assert begun.offset == 2 * CHUNK, begun.offset
    other = client.uploader(path, chunk_size=CHUNK, url=begun.url)
    assert other.offset == 2 * CHUNK, other.offset
    other.upload()
    assert other.offset == os.path.getsize(path), other.offset
    print(other.url)


main()
