"""Secrets: where they lie, and reading them. None is kept, and none stands in an error."""

import re
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from maillinkd.settings.problem import SecretUnavailable

OAUTH_KEY = "oauth_key"
"""The systemd credential that holds the key of `[oauth]`."""
SECRET_BYTES = 65_536
"""No secret is larger; more than this is never read."""
ADDRESS_KEY_BYTES = 16
"""The shortest key of Smart Bcc addresses: 128 bits."""

Fault = Callable[[str], SecretUnavailable]
"""Makes the error from what was expected: it knows the key, and where that was set."""


def content(path: Path, fault: Fault) -> bytes:
    """What the file holds, to SECRET_BYTES. Raises `fault` if it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(SECRET_BYTES)
    except OSError as error:
        raise fault(f"cannot read {path}: {error.strerror}") from error


def first_line_of(path: Path, fault: Fault, what: str = "password") -> str:
    """The first line of the file. Raises `fault` if there is none."""
    return first_line(content(path, fault), str(path), fault, what)


def first_line(text: bytes, origin: str, fault: Fault, what: str = "password") -> str:
    """The first line, without its end. Raises `fault` where it is empty or not UTF-8."""
    line = text.partition(b"\n")[0].removesuffix(b"\r")
    if not line:
        raise fault(f"expected the {what} in the first line of {origin}")
    try:
        return line.decode()
    except UnicodeDecodeError:
        # The decoder's error quotes the bytes, so it stays behind.
        raise fault(f"expected UTF-8 in the first line of {origin}") from None


def variable(name: str, environ: Mapping[str, str], fault: Fault) -> str:
    """The variable's value. Raises `fault` where it is not set, or empty."""
    if not (value := environ.get(name)):
        raise fault(f"environment variable {name} is not set")
    return value


def credential(name: str, environ: Mapping[str, str]) -> Path | None:
    """The systemd credential of this name (LoadCredential=NAME:…); None if there is none."""
    if not (directory := environ.get("CREDENTIALS_DIRECTORY")):
        return None
    path = Path(directory, name)
    return path if path.is_file() else None


def address_keys(path: Path, fault: Fault) -> tuple[bytes, ...]:
    """The keys in the file: one a line if it is printable ASCII, else all of it but its last line end.

    Raises `fault` if the file can't be read or a key is shorter than ADDRESS_KEY_BYTES.
    """
    held = content(path, fault).rstrip(b"\r\n")
    is_text = re.fullmatch(rb"[\x20-\x7e\r\n]*", held)
    keys = tuple(line for line in held.splitlines() if line) if is_text else (held,)
    if not keys or any(len(key) < ADDRESS_KEY_BYTES for key in keys):
        raise fault(f"expected keys of {ADDRESS_KEY_BYTES} bytes or more in {path}, one a line")
    return keys


def readable_by_all(path: Path) -> bool:
    """Whether every user of the machine can read the file."""
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False  # missing or hidden: Settings.require_secrets says so
