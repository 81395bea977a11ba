"""Addresses and lists of them (RFC 5322, 3.4 and 4.4; RFC 6532), compared as linking.md says in "Words"."""

import re
import unicodedata
from collections.abc import Collection, Iterator

import idna

from maillinkd.mail.comment import without_comments
from maillinkd.mail.mime import decode_8bit, encodable

MAX_ADDRESSES = 1_000
"""Addresses taken from one field; the rest is ignored."""
MAX_ADDRESS = 320
"""Characters of an address (RFC 5321, 4.5.3.1: 64 + 1 + 255); what is longer is none."""
MAX_DOMAIN = 253


def normalise(address: str) -> str:
    """The address as it is compared: lower case, an IDNA domain as A-labels, no surrounding space.

    A domain that IDNA refuses is lower-cased only. The result can be encoded as UTF-8, and doing it again changes
    nothing.
    """
    address = encodable(address).strip().lower()
    if address.isascii():
        return address
    local, at, domain = address.rpartition("@")
    return f"{unicodedata.normalize('NFC', local)}{at}{_a_labels(domain)}"


def _a_labels(domain: str) -> str:
    if domain.isascii() or len(domain) > MAX_DOMAIN:
        return domain
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except UnicodeError:  # the base of IDNAError
        return domain


def without_plus_tag(address: str) -> str:
    """The address without `+tag` in its local part (linking.md, `policy.ignore_plus_tags`)."""
    local, at, domain = address.rpartition("@")
    name = local.partition("+")[0]
    return f"{name}{at}{domain}" if name else address


def is_internal(address: str, domains: Collection[str]) -> bool:
    """Whether the domain of a normalised address is one of `domains` (normalised) or a subdomain of one."""
    domain = address.rpartition("@")[2]
    while domain:
        if domain in domains:
            return True
        domain = domain.partition(".")[2]
    return False


def parse_addresses(value: str | bytes) -> tuple[str, ...]:
    """The normalised addresses of an address list, in its order and without repeats.

    Takes what RFC 5322 allows (display names, groups, comments, quoted local parts, routes) and what is found in the
    world (a bare address after a name, semicolons, missing commas, unclosed brackets). Never raises; what has no
    address in it gives none; at most MAX_ADDRESSES. The time taken grows with the length of the value alone.
    """
    text = decode_8bit(value) if isinstance(value, bytes) else encodable(value)
    found: dict[str, None] = {}
    for address in _addresses(text):
        found[address] = None
        if len(found) == MAX_ADDRESSES:
            break
    return tuple(found)


_ENCODED_WORD = re.compile(r"=\?[^?\s]{1,64}\?[bBqQ]\?[^?]*\?=(?!@)")
_HIDING = re.compile(r'"(?:[^"\\]|\\.)*+"|\\.|\(', re.DOTALL)
# What can stand between two specials of the grammar. A quoted string or a domain literal that is not closed is text.
_TOKEN = re.compile(r"""[^"<>,;:\[\\]+|"(?:[^"\\]|\\.)*+"|\\.|\[[^\[\]<>,;"\\]*\]|.""", re.DOTALL)
_LOCAL = re.compile(r"""[^\s()<>\[\],;:\\"@\x00-\x1f\x7f-\x9f]+""")
_DOMAIN = re.compile(r"""[^\W_][^\x00-,/:-@\[-^`{-\xa0\s]*|\[[\w.:-]+\]""")
_QUOTED = re.compile(r'"((?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*+)"')
_PAIR = re.compile(r"\\(.)")


def _addresses(text: str) -> Iterator[str]:
    """The addresses of a list, mailbox by mailbox."""
    if "=?" in text:  # some clients leave commas and angles bare in an encoded name
        text = _ENCODED_WORD.sub(" ", text)
    bare: list[str] = []
    angles: list[str] = []
    angle: list[str] | None = None
    for token in _TOKEN.findall(without_comments(text, _HIDING)):
        match token:
            case "<":
                angle = []
            case ">":
                if angle is not None:
                    angles.append("".join(angle))
                angle = None
            case ":":  # ends a group's name, a route (RFC 5322, 4.4) or `mailto`
                (bare if angle is None else angle).clear()
            case "," if angle and angle[0].lstrip().startswith("@"):
                angle.append(token)
            case "," | ";":
                yield from _mailbox(bare, angles if angle is None else [*angles, "".join(angle)])
                bare, angles, angle = [], [], None
            case _:
                (bare if angle is None else angle).append(token)
    yield from _mailbox(bare, angles if angle is None else [*angles, "".join(angle)])


def _mailbox(bare: list[str], angles: list[str]) -> Iterator[str]:
    """The addresses in angles, or else those in the text around them."""
    found = [address for angle in angles if (address := _address(angle))]
    if not found and bare:
        found = _bare_addresses(bare)
    yield from found


def _bare_addresses(tokens: list[str]) -> list[str]:
    text = "".join(tokens)
    if "@" not in text:
        return []
    if address := _address(text):
        return [address]
    names = (token for token in tokens if not token.startswith('"'))
    words = (word for name in names for word in name.split() if "@" in word)
    return [address for word in words if (address := _address(word))]


def _address(text: str) -> str | None:
    """The text as a normalised address, or None if it is none (RFC 5322, 3.4.1, obsolete spaces around `@` too)."""
    text = text.strip()
    if text[:1] == text[-1:] == '"':  # an address that somebody took for a name
        text = text[1:-1]
    local, at, domain = text.rpartition("@")
    local, domain = local.rstrip(), domain.lstrip()
    if not at or len(local) + len(domain) >= MAX_ADDRESS:
        return None
    if local.startswith("'") and domain.endswith("'"):
        local, domain = local[1:], domain[:-1]
    if not _DOMAIN.fullmatch(domain):
        return None
    if not _LOCAL.fullmatch(local):
        quoted = _QUOTED.fullmatch(local)
        if quoted is None:
            return None
        name = _PAIR.sub(r"\1", quoted[1])
        if _LOCAL.fullmatch(name):
            local = name
    return normalise(f"{local}@{domain}")
