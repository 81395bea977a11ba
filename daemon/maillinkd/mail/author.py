"""The author of a mail, read so strictly that no program can see another one (RFC 5322, 3.6.2; RFC 7489, 6.6.1).

Linking reads headers as leniently as mail needs it (`mail.address`). Whoever is to be believed must be named
plainly: one From field, one address, nothing that hides another.
"""

import re
import unicodedata

import idna

from maillinkd.mail.address import normalise
from maillinkd.mail.header import MAX_FIELD, MAX_HEADER, Field
from maillinkd.mail.mime import decode_words

ONLY_ONCE = ("from", "sender", "reply-to", "to", "cc", "subject", "date", "message-id", "in-reply-to", "references")
"""RFC 5322, 3.6: fields that may stand once."""

_NAME = re.compile(rb"([!-9;-~]+)[ \t]*:")
_LOCAL = r"[\w!#$%&'*+/=?^`{|}~-]+(?:\.[\w!#$%&'*+/=?^`{|}~-]+)*"
_DOMAIN = r"[^\W_](?:[\w-]*[^\W_])?(?:\.[^\W_](?:[\w-]*[^\W_])?)+"
_ADDRESS = rf"{_LOCAL}@{_DOMAIN}"
_COMMENT = r"(?:[ \t]*\([^()@<>\\]*\))?"
_PHRASE = r'(?P<name>(?:[^"()<>\[\]:;@\\,\x00-\x08\x0a-\x1f\x7f]+|"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[ -~])*+")*+)'
_BARE = re.compile(rf"[ \t]*(?P<bare>{_ADDRESS}){_COMMENT}[ \t]*")
_ANGLED = re.compile(rf"{_PHRASE}<(?P<angled>{_ADDRESS})>{_COMMENT}[ \t]*")
_IN_NAME = re.compile(r"[^\s<>\"'(),:;]+@[^\s<>\"'(),:;]+")


class Disguised(ValueError):
    """A header that does not name its author plainly; says why."""


def every_field(block: bytes) -> tuple[Field, ...]:
    """All fields of a header block, which ends at its first empty line, in their order.

    Raises Disguised where another program might find other fields: lines that are none, bare CR or LF, NUL, a block
    or a field larger than is looked at.
    """
    head = block.partition(b"\r\n\r\n")[0].removesuffix(b"\r\n")
    if len(head) > MAX_HEADER:
        raise Disguised("the header is too large")
    if b"\0" in head:
        raise Disguised("NUL in the header")
    raw: list[list[bytes]] = []
    for line in head.split(b"\r\n"):
        if b"\r" in line or b"\n" in line:
            raise Disguised("bare CR or LF in the header")
        if line[:1] in (b" ", b"\t") and raw:
            raw[-1].append(line)
        elif _NAME.match(line):
            raw.append([line])
        else:
            raise Disguised("a line in the header is no field")
    return tuple(map(_field, raw))


def author_of(fields: tuple[Field, ...]) -> str:
    """The address of the one author, normalised as `mail.address` does. Raises Disguised."""
    found = [field for field in fields if field.name == "from"]
    if len(found) != 1:
        raise Disguised("no From" if not found else f"{len(found)} From fields")
    try:
        text = found[0].value.decode()
    except UnicodeDecodeError:
        raise Disguised("From is not UTF-8") from None
    if len(text) > 2_000:
        raise Disguised("From is too long")
    parsed = _ANGLED.fullmatch(text) or _BARE.fullmatch(text)
    if parsed is None:
        raise Disguised("From is not one plain address")
    groups = parsed.groupdict()
    address: str = groups.get("angled") or groups["bare"]
    local, _, domain = address.rpartition("@")
    plain = normalise(address)
    looks_ascii = not local.isascii() and plain.rpartition("@")[0].isascii()
    if "=?" in local or looks_ascii or not (domain.isascii() or _is_u_label(domain)):
        raise Disguised("the address in From is encoded, or not in its one form")
    shown = unicodedata.normalize("NFKC", decode_words(groups.get("name") or ""))
    for other in _IN_NAME.findall(shown):
        if normalise(other) != plain:
            raise Disguised("the name in From shows another address")
    return plain


def repeated(fields: tuple[Field, ...]) -> str | None:
    """A field that stands more often than it may, None if there is none: a reader might show either."""
    names = [field.name for field in fields]
    return next((name for name in ONLY_ONCE if names.count(name) > 1), None)


def _is_u_label(domain: str) -> bool:
    """RFC 5890, 2.3.2.1: in the one form that its A-label stands for, so that nothing only looks like it."""
    try:
        return idna.decode(idna.encode(domain)) == domain
    except (idna.IDNAError, UnicodeError):
        return False


def _field(lines: list[bytes]) -> Field:
    raw = b"\r\n".join(lines) + b"\r\n"
    if len(raw) > MAX_FIELD:
        raise Disguised("a field of the header is too large")
    label, _, value = b"".join(lines).partition(b":")
    return Field(label.rstrip(b" \t").lower().decode("ascii"), value, raw)
