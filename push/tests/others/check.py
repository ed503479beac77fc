"""Looks at pushes with libraries that nobody here wrote: http-ece decrypts them, PyJWT checks their tokens.

    check.py '{"decrypt": {"private", "auth", "body"}}'                  prints what was said
    check.py '{"verify": {"token", "algorithm", "key", "audience"}}'     prints the claims

Bytes are in base64url. A key is {"point": BASE64URL} or {"private": PEM}, of which the public part is taken.
"""
import base64
import json
import sys

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key


def unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def decrypt(asked: dict) -> object:
    number = int.from_bytes(unbase64(asked["private"]), "big")
    private = ec.derive_private_key(number, ec.SECP256R1())
    body, auth = unbase64(asked["body"]), unbase64(asked["auth"])
    return json.loads(http_ece.decrypt(body, private_key=private, auth_secret=auth, version="aes128gcm"))


def verify(asked: dict) -> dict:
    key = asked["key"]
    if "point" in key:
        public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), unbase64(key["point"]))
    else:
        public = load_pem_private_key(key["private"].encode(), None).public_key()
    # The tests set the time of day.
    options = {"verify_exp": False, "verify_iat": False, "verify_nbf": False}
    return jwt.decode(asked["token"], public, [asked["algorithm"]], options, audience=asked["audience"])


def main() -> None:
    [(what, asked)] = json.loads(sys.argv[1]).items()
    print(json.dumps({"decrypt": decrypt, "verify": verify}[what](asked)))


main()
