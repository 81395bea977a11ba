"""PURE: what is sent: words, strings quoted or as literals (RFC 9051, 4.3 and 9)."""

from collections.abc import Sequence
from dataclasses import dataclass, field


class Unsendable(ValueError):
    """A user name, password or folder name with CR, LF or NUL, which would end the command (RFC 9051, 9)."""


@dataclass(frozen=True, slots=True)
class Astring:
    """A string that goes out quoted or as a literal."""

    octets: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if any(control in self.octets for control in b"\0\r\n"):
            raise Unsendable("CR, LF and NUL cannot be sent in a string")

    @property
    def quotable(self) -> bool:
        return len(self.octets) <= 1_000 and all(0x20 <= octet <= 0x7E for octet in self.octets)

    @property
    def quoted(self) -> bytes:
        return b'"' + self.octets.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


@dataclass(frozen=True, slots=True)
class Secret:
    """What goes out as it stands and is shown nowhere."""

    octets: bytes = field(repr=False)


Argument = str | Astring | Secret | tuple[Astring, ...]
"""A tuple goes out as a list in parentheses."""


def wire(tag: str, words: Sequence[Argument], *, literal_plus: bool) -> list[bytes]:
    """A command's bytes, cut where the server's `+` is to be waited for.

    >>> wire("a1", ["LOGIN", Astring(b"anna"), Astring("zoë".encode())], literal_plus=False)
    [b'a1 LOGIN "anna" {4}\\r\\n', b'zo\\xc3\\xab\\r\\n']
    """
    pieces = [bytearray(tag.encode("ascii"))]
    for word in words:
        pieces[-1] += b" "
        if isinstance(word, str):
            pieces[-1] += word.encode("ascii")
        elif isinstance(word, Secret):
            pieces[-1] += word.octets
        elif isinstance(word, Astring):
            _add(pieces, word, literal_plus)
        else:
            pieces[-1] += b"("
            for at, each in enumerate(word):
                pieces[-1] += b" " if at else b""
                _add(pieces, each, literal_plus)
            pieces[-1] += b")"
    pieces[-1] += b"\r\n"
    return [bytes(piece) for piece in pieces]


def _add(pieces: list[bytearray], string: Astring, literal_plus: bool) -> None:
    if string.quotable:
        pieces[-1] += string.quoted
    elif literal_plus:
        pieces[-1] += b"{%d+}\r\n" % len(string.octets) + string.octets
    else:
        pieces[-1] += b"{%d}\r\n" % len(string.octets)
        pieces.append(bytearray(string.octets))
