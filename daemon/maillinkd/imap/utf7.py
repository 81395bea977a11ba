"""Mailbox names in modified UTF-7 (RFC 3501, 5.1.3)."""

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64

_SHIFTED = re.compile(r"&([A-Za-z0-9+,]*)-")
_TO_SHIFT = re.compile(r"[^\x20-\x7e]+|&")


def decode(name: bytes) -> str:
    """The name as a person reads it, in a form that every database holds.

    Never raises: a name that is not modified UTF-7 (some servers send UTF-8), or that hides NUL, is taken as it is;
    octets that are no UTF-8 either are written as `\\xff`.
    """
    text = name.decode("utf-8", "backslashreplace")
    try:
        decoded = _SHIFTED.sub(_unshift, text)
        return decoded if encode(decoded) == name and "\0" not in decoded else text
    except (NotBase64, UnicodeError):
        return text


def encode(name: str) -> bytes:
    """The name as the server wants it, ASCII alone. Raises UnicodeEncodeError for lone surrogates."""
    return _TO_SHIFT.sub(_shift, name).encode("ascii")


def _unshift(match: re.Match[str]) -> str:
    if not match[1]:
        return "&"
    packed = match[1].replace(",", "/")
    return b64decode(packed + "=" * (-len(packed) % 4), validate=True).decode("utf-16-be")


def _shift(match: re.Match[str]) -> str:
    if match[0] == "&":
        return "&-"
    packed = b64encode(match[0].encode("utf-16-be")).decode("ascii")
    return f"&{packed.rstrip('=').replace('/', ',')}-"
