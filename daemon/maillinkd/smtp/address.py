"""Smart Bcc addresses: which item a recipient means, and which address names an item (linking.md L13)."""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from uuid import UUID

import idna

from maillinkd.directory.item import SLOT_KINDS, ItemKind, ItemRef

FLICKR_BASE58 = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
TOKEN_LENGTH = 22
"""Base58 digits that hold any UUID: 58 ** 22 > 2 ** 128."""

_CROCKFORD_BASE32 = "0123456789abcdefghjkmnpqrstvwxyz"
_SUFFIX_BITS = 40

_LOCAL_PART = re.compile(r"[a-z0-9!#$%&'*/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*/=?^_`{|}~-]+)*")
"""RFC 5321, 4.1.2: Dot-string, without the `+` that begins a tag."""
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\[ -~])*)"')
"""RFC 5321, 4.1.2: Quoted-string."""
_ITEM_TAG = re.compile(r"(deal|lead|project)([a-z0-9_-]{1,64})", re.IGNORECASE | re.ASCII)
_LEAD_TOKEN_TAG = re.compile(rf"1\+(?i:lead)([{FLICKR_BASE58}]{{1,{TOKEN_LENGTH}}})", re.ASCII)
_ALIAS_TAG = re.compile(r"alias([0-9a-z]{1,64})\.([0-9a-z]{8})", re.ASCII)
_KEYED_TAG = re.compile(r"(.+)\.([0-9a-z]{8})", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Target:
    """What a Smart Bcc address means."""

    item: ItemRef | None
    """The item that the tag names, known or not; None for the universal address."""
    alias: str = ""
    """The token of a one-time address, to which mail from an alias confirms it; "" for all others."""


@dataclass(frozen=True, slots=True)
class SmartBccAddress:
    """The universal address of an installation, and with it all the addresses that name an item.

    Domain and local part are kept as they are compared: lower case, the domain as A-labels. Raises ValueError with
    a sentence for a domain or a local part that can't stand in an address.
    """

    domain: str
    local_part: str
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    """When set, a tag without a suffix by one of them is an unknown recipient. The first one makes suffixes; the
    others are former ones, whose addresses stay good for as long as they stand here."""
    alias_key: bytes = field(default=b"", repr=False)
    """What one-time addresses for aliases are signed with; without it there are none."""

    def __post_init__(self) -> None:
        domain = _ascii_domain(self.domain)
        if not domain:
            raise ValueError(f"{self.domain!r} is no domain")
        local_part = self.local_part.lower()
        if not _LOCAL_PART.fullmatch(local_part):
            raise ValueError(f"{self.local_part!r} is no local part of a Smart Bcc address: ASCII, no '+', no space")
        if not all(self.keys):
            raise ValueError("a key of the address suffixes is empty")
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "local_part", local_part)

    def owns(self, recipient: str) -> bool:
        """Whether the recipient lies in our domain; any other would be relaying."""
        return _ascii_domain(recipient.rpartition("@")[2]) == self.domain

    def parse(self, recipient: str) -> Target | None:
        """What a recipient of the envelope means; None for an unknown one and for one that is not ours.

        `recipient` is a Mailbox (RFC 5321, 4.1.2) without angle brackets. All but a lead's token is compared
        case-insensitively; an id is returned as it was written.
        """
        local_part, at, _ = recipient.rpartition("@")
        if not at or not self.owns(recipient):
            return None
        name, plus, tag = _unquoted(local_part).partition("+")
        if not name.isascii() or name.lower() != self.local_part:
            return None
        return self._target_of(tag) if plus else Target(None)

    def address_of(self, item: ItemRef | None) -> str:
        """The address to put in Bcc: of an item, or the universal one.

        Raises ValueError for an item of a kind to which no address leads.
        """
        if item is None:
            return f"{self.local_part}@{self.domain}"
        if item.kind not in SLOT_KINDS:
            raise ValueError(f"{item} has no address: only {', '.join(sorted(SLOT_KINDS))} have one")
        return self._tagged(f"{item.kind}{item.id}")

    def lead_token_address(self, uuid: str) -> str:
        """The address of a lead in the form with a token. Raises ValueError if `uuid` is none."""
        return self._tagged(f"1+lead{lead_token(uuid)}")

    def alias_address(self, token: str) -> str:
        """The one-time address of a token: letters and digits, 1 to 64, in lower case."""
        tag = f"alias{token}"
        return f"{self.local_part}+{tag}.{_suffix(self.alias_key, tag)}@{self.domain}"

    def _tagged(self, tag: str) -> str:
        suffix = f".{_suffix(self.keys[0], tag)}" if self.keys else ""
        return f"{self.local_part}+{tag}{suffix}@{self.domain}"

    def _target_of(self, tag: str) -> Target | None:
        if self.alias_key and (alias := _ALIAS_TAG.fullmatch(tag.lower())):
            known = hmac.compare_digest(_suffix(self.alias_key, f"alias{alias[1]}"), alias[2])
            return Target(None, alias[1]) if known else None
        if self.keys:
            keyed = _KEYED_TAG.fullmatch(tag)
            if not keyed or not self._is_signed(keyed[1], keyed[2].lower()):
                return None
            tag = keyed[1]
        item = _item_of(tag)
        return Target(item) if item else None

    def _is_signed(self, tag: str, suffix: str) -> bool:
        """Whether one of the keys made the suffix. All are tried, so that time tells nothing."""
        answers = [hmac.compare_digest(_suffix(key, tag), suffix) for key in self.keys]
        return any(answers)


def _suffix(key: bytes, tag: str) -> str:
    """40 bits of HMAC-SHA256 of the tag, in Crockford's base32 (no i, l, o, u)."""
    digest = hmac.digest(key, _canonical(tag).encode("utf-8", "surrogatepass"), hashlib.sha256)
    number = int.from_bytes(digest[: _SUFFIX_BITS // 8])
    return "".join(_CROCKFORD_BASE32[number >> shift & 31] for shift in range(_SUFFIX_BITS - 5, -1, -5))


def lead_token(uuid: str) -> str:
    """A lead's UUID in flickr base58, padded to 22 digits. Raises ValueError if it is no UUID."""
    number = UUID(uuid).int
    digits = ""
    while number:
        number, digit = divmod(number, 58)
        digits = FLICKR_BASE58[digit] + digits
    return digits.rjust(TOKEN_LENGTH, FLICKR_BASE58[0])


def lead_of_token(token: str) -> str:
    """The UUID that a token stands for, in its canonical form. Raises ValueError if it stands for none."""
    if not 1 <= len(token) <= TOKEN_LENGTH:
        raise ValueError(f"{token!r} is no token: expected up to {TOKEN_LENGTH} digits of base58")
    number = 0
    for digit in token:
        number = number * 58 + FLICKR_BASE58.index(digit)
    if number >> 128:
        raise ValueError(f"{token!r} is no token: it holds more than a UUID")
    return str(UUID(int=number))


def _item_of(tag: str) -> ItemRef | None:
    """The item that a tag names, its suffix taken off; None for a tag of no known form."""
    if named := _ITEM_TAG.fullmatch(tag):
        return ItemRef(ItemKind(named[1].lower()), named[2])
    if token := _LEAD_TOKEN_TAG.fullmatch(tag):
        try:
            return ItemRef(ItemKind.LEAD, lead_of_token(token[1]))
        except ValueError:
            return None
    return None


def _canonical(tag: str) -> str:
    """A tag as its suffix is computed of it: equal for all spellings that mean the same item."""
    token = _LEAD_TOKEN_TAG.fullmatch(tag)
    return f"1+lead{token[1]}" if token else tag.lower()


def _unquoted(local_part: str) -> str:
    """RFC 5321, 4.1.2: a quoted local part means what it would mean without quotes."""
    quoted = _QUOTED.fullmatch(local_part)
    return re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else local_part


def _ascii_domain(domain: str) -> str:
    """A domain as it is compared: A-labels (RFC 5890), lower case, no final dot; empty if it can't be one."""
    domain = domain.removesuffix(".")
    if domain.isascii():
        return domain.lower() if re.fullmatch(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*", domain) else ""
    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower() if len(domain) <= 255 else ""
    except (idna.IDNAError, UnicodeError):
        return ""
