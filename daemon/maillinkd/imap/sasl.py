"""PURE: what SASL mechanisms say (RFC 4616, RFC 7628, and Google's XOAUTH2), before base64."""

import json
from base64 import b64decode
from binascii import Error

from maillinkd.imap.errors import printable

OAUTHBEARER = "OAUTHBEARER"
XOAUTH2 = "XOAUTH2"
BEARER = (OAUTHBEARER, XOAUTH2)
"""The mechanisms that take an access token, the standard one first."""

DISMISSAL = {OAUTHBEARER: b"AQ==", XOAUTH2: b""}
"""The line that answers the challenge which says why; only then the server refuses (RFC 7628, 3.2.3)."""
CANCEL = b"*"
"""RFC 9051, 6.2.2."""


def plain(user: bytes, password: bytes) -> bytes:
    """RFC 4616, 2."""
    return b"\0" + user + b"\0" + password


def bearer(mechanism: str, user: bytes, token: str, host: str, port: int) -> bytes:
    """The initial response that carries an access token: of OAUTHBEARER (RFC 7628, 3.1) or XOAUTH2."""
    if mechanism == XOAUTH2:
        return b"user=" + user + f"\x01auth=Bearer {token}\x01\x01".encode()
    name = user.replace(b"=", b"=3D").replace(b",", b"=2C")  # saslname: RFC 5801, 4
    return b"n,a=" + name + f",\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01".encode()


def reason(challenge: bytes) -> str:
    """What the JSON of a refusal says (RFC 7628, 3.2.2), for people; empty if it cannot be read."""
    try:
        fields = json.loads(b64decode(challenge, validate=True))
    except (Error, ValueError, RecursionError):
        return ""
    if not isinstance(fields, dict):
        return ""
    known = ((name, fields.get(name)) for name in ("status", "scope", "error_description"))
    return printable(", ".join(f"{name} {value}" for name, value in known if isinstance(value, str | int)))
