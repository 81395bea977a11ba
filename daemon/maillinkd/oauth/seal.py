"""Tokens at rest: encrypted with a key that lies elsewhere than they do.

Fernet (AES-128-CBC and HMAC-SHA256, with nothing to choose wrongly). The key file has one key a line, the first one
seals and each opens, so that a key can be changed without a new login. This protects a copy of the database: a
backup, a replica, the tables in somebody's hands. It does not protect from whoever can read the key too.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maillinkd.oauth.token import TokenError


class Seal:
    """Encrypts and decrypts. Raises TokenError if these are no keys."""

    def __init__(self, keys: bytes) -> None:
        from cryptography.fernet import Fernet, MultiFernet

        try:
            self._keys = MultiFernet([Fernet(line) for line in keys.split()])
        except (ValueError, TypeError):  # whose texts may quote the key
            raise TokenError("the key file of [oauth] holds no key as `maillinkd auth login` makes it") from None

    def close(self, values: Mapping[str, Any]) -> bytes:
        """Encrypts."""
        return self._keys.encrypt(json.dumps(dict(values)).encode())

    def open(self, sealed: bytes) -> dict[str, Any]:
        """Decrypts. Raises TokenError if it was sealed with another key, or changed."""
        from cryptography.fernet import InvalidToken

        try:
            values: dict[str, Any] = json.loads(self._keys.decrypt(sealed))
        except (InvalidToken, ValueError):
            raise TokenError(
                "the stored token was encrypted with another key: expected the key file of [oauth] "
                "with which it was stored, or a new `maillinkd auth login`"
            ) from None
        return values


def make_key(path: Path) -> bytes:
    """Makes a key file, readable by its owner alone. Raises OSError, also where there is a file already."""
    from cryptography.fernet import Fernet

    key = Fernet.generate_key() + b"\n"
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)  # whole or not at all, and never over another one
    finally:
        draft.unlink(missing_ok=True)
    return key
