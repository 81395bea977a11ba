"""The arguments of EHLO, MAIL, RCPT and BDAT, read strictly (RFC 5321, 4.1.1 to 4.1.2; RFC 1870, 3030, 6152, 6531).

What the library's parser lets through is refused here: unclosed brackets, comments, source routes, control
characters, octets that are no UTF-8.
"""

import re
from dataclasses import dataclass

_ADDRESS_OCTETS = 320
"""64 of the local part, `@`, 255 of the domain (RFC 5321, 4.5.3.1). Some give the local part more of it."""

_LOCAL_PART = r'(?:[^\s"(),:;<>@\[\]\\]+|"(?:[^"\\]|\\.)*")'
_DOMAIN = r"(?:[^\s\"(),:;<>@\[\]\\]+|\[[0-9A-Za-z:.]+\])"
_PATH = re.compile(rf"<((?:{_LOCAL_PART}@{_DOMAIN})?)>(?:\s+(.*))?")
_LABELS = re.compile(r"[\w-]+(?:\.[\w-]+)*\.?|\[[0-9A-Za-z:.]+\]")
_SIZE = re.compile(r"[0-9]{1,20}")
"""RFC 1870, 4: size-value."""
_CHUNK = re.compile(r"([0-9]{1,20})(?: +(LAST))?", re.IGNORECASE | re.ASCII)
"""RFC 3030, 2: chunk-size and end-marker."""


class SyntaxRefusal(Exception):
    """An argument that is refused; carries the reply to send."""

    def __init__(self, reply: str) -> None:
        super().__init__(reply)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class MailCommand:
    """What `MAIL FROM:` says."""

    sender: str
    """The reverse-path without brackets, "" for the null sender."""
    size: int = 0
    """Octets that the client declared (RFC 1870), 0 if it did not."""
    smtputf8: bool = False


def is_host_name(text: str) -> bool:
    """Whether a client may call itself so: one printable word of 255 characters at most (RFC 5321, 4.5.3.1.2).

    Nothing else is asked of it, for many clients do not know their name.
    """
    return 0 < len(text) <= 255 and text.isprintable() and " " not in text


def parse_mail(argument: str) -> MailCommand:
    """Reads what follows MAIL. Raises SyntaxRefusal."""
    sender, words = _path(argument, "FROM:", malformed="553 5.1.7 Malformed sender address")
    size, smtputf8 = 0, False
    for keyword, value in _parameters(words):
        match keyword:
            case "SIZE" if _SIZE.fullmatch(value):
                size = int(value)
            case "BODY" if value.upper() in ("7BIT", "8BITMIME"):
                pass
            case "SMTPUTF8" if not value:
                smtputf8 = True
            case "SIZE" | "BODY" | "SMTPUTF8":
                raise SyntaxRefusal(f"501 5.5.4 Wrong value of {keyword}")
            case _:
                raise SyntaxRefusal("555 5.5.4 Parameter not recognised")
    if not smtputf8 and not sender.isascii():
        raise SyntaxRefusal("553 5.6.7 Address needs SMTPUTF8")
    return MailCommand(sender, size, smtputf8)


def parse_rcpt(argument: str, *, smtputf8: bool) -> str:
    """Reads what follows RCPT: the forward-path without brackets. Raises SyntaxRefusal."""
    recipient, words = _path(argument, "TO:", malformed="553 5.1.3 Malformed recipient address")
    if not recipient:
        raise SyntaxRefusal("553 5.1.3 Malformed recipient address")
    if words:
        raise SyntaxRefusal("555 5.5.4 Parameter not recognised")
    if not smtputf8 and not recipient.isascii():
        raise SyntaxRefusal("553 5.6.7 Address needs SMTPUTF8")
    return recipient


@dataclass(frozen=True, slots=True)
class ChunkCommand:
    """What `BDAT` says."""

    size: int
    """Octets that follow the command line."""
    last: bool


def parse_bdat(argument: str) -> ChunkCommand:
    """Reads what follows BDAT (RFC 3030, 2). Raises SyntaxRefusal; then nobody knows where the next command is."""
    chunk = _CHUNK.fullmatch(argument)
    if not chunk:
        raise SyntaxRefusal("501 5.5.4 Expected the octets of a chunk, and LAST after the last one")
    return ChunkCommand(int(chunk[1]), chunk[2] is not None)


def _path(argument: str, keyword: str, *, malformed: str) -> tuple[str, str]:
    """The address in brackets and the parameters after it. A space after the colon is common, and harmless."""
    if argument[: len(keyword)].upper() != keyword:
        raise SyntaxRefusal(f"501 5.5.4 Expected {keyword}<address>")
    path = _PATH.fullmatch(argument[len(keyword) :].strip(" "))
    if not path:
        raise SyntaxRefusal(malformed)
    address: str = path[1]
    # Printable also means: no lone surrogates, which stand for octets that were no UTF-8.
    if not address.isprintable() or len(address.encode()) > _ADDRESS_OCTETS:
        raise SyntaxRefusal(malformed)
    if address and not _LABELS.fullmatch(address.rpartition("@")[2]):
        raise SyntaxRefusal(malformed)
    return address, path[2] or ""


def _parameters(words: str) -> list[tuple[str, str]]:
    """`KEYWORD=value` pairs, keywords in upper case. Raises SyntaxRefusal for one that is given two values."""
    pairs = {(keyword.upper(), value) for keyword, _, value in (word.partition("=") for word in words.split())}
    if len({keyword for keyword, _ in pairs}) < len(pairs):
        raise SyntaxRefusal("501 5.5.4 Parameter with two values")
    return sorted(pairs)
