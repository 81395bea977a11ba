"""DKIM: what a signature says, which octets it covers, and what a key record says (RFC 6376, RFC 8301, RFC 8463).

Asks nobody: `check` fetches the key, `keys` does the arithmetic.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from maillinkd.mail.header import Field
from maillinkd.smtp.auth.names import is_domain

FIELD = "dkim-signature"
MAX_SIGNATURE = 16_384
"""Octets of a field that is looked at."""
PIECE = 65_536
"""Octets of a body that are canonicalised at one time: other threads get their turn in between."""

Canonicalization = Literal["simple", "relaxed"]
Algorithm = Literal["rsa-sha256", "ed25519-sha256"]

_TAG = re.compile(r"[ \t\r\n]*([A-Za-z][A-Za-z0-9_]*)[ \t\r\n]*=([^;]*)", re.ASCII)
_B_VALUE = re.compile(rb"((?:\A|;)[ \t\r\n]*b[ \t\r\n]*=)[^;]*")
_SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?)*", re.I | re.ASCII)
_SPACES = re.compile(rb"[ \t]+")


class Unusable(Exception):
    """A signature or a key that proves nothing; says why."""


@dataclass(frozen=True, slots=True)
class Signature:
    """RFC 6376, 3.5."""

    domain: str
    """SDID, in lower case."""
    selector: str
    algorithm: Algorithm
    identity: str
    """The domain of AUID, in lower case."""
    header: Canonicalization
    body: Canonicalization
    names: tuple[str, ...]
    """The signed fields, in lower case."""
    body_hash: bytes
    value: bytes
    length: int | None
    """`l=`: octets of the body that are signed."""
    expires: int | None
    """`x=`, seconds since 1970."""
    field: Field

    @property
    def key_name(self) -> str:
        """Where its key is published (3.6.2.1)."""
        return f"{self.selector}._domainkey.{self.domain}"


@dataclass(frozen=True, slots=True)
class Key:
    """RFC 6376, 3.6.1."""

    kind: Literal["rsa", "ed25519"]
    octets: bytes
    strict: bool
    """`t=s`: the identity's domain is the signer's own."""


def read_signature(field: Field) -> Signature:
    """Reads a DKIM-Signature field. Raises Unusable for one that RFC 6376, 6.1.1 refuses, or without From."""
    if len(field.raw) > MAX_SIGNATURE:
        raise Unusable("the signature is too large")
    tags = _tags(field.value)
    missing = sorted({"v", "a", "b", "bh", "d", "h", "s"} - tags.keys())
    if missing:
        raise Unusable(f"the signature has no {missing[0]}=")
    if tags["v"] != "1":
        raise Unusable("the signature has another version")
    domain, selector, algorithm = tags["d"].lower(), tags["s"], tags["a"].lower()
    if not is_domain(domain) or not _SELECTOR.fullmatch(selector) or len(selector) > 200:
        raise Unusable("the signature names no domain or no selector")
    identity = tags.get("i", f"@{domain}").rpartition("@")[2].lower()
    if identity != domain and not identity.endswith(f".{domain}"):
        raise Unusable("i= lies outside d=")
    names = tuple(name.strip().lower() for name in tags["h"].split(":"))
    if "from" not in names:
        raise Unusable("From is not signed")
    if "dns/txt" not in [way.strip() for way in tags.get("q", "dns/txt").split(":")]:
        raise Unusable("its key is not in DNS")
    header, _, body = tags.get("c", "simple/simple").lower().partition("/")
    written, expires = _number(tags, "t"), _number(tags, "x")
    if written is not None and expires is not None and expires <= written:
        raise Unusable("it expires before it was made")
    return Signature(
        domain=domain,
        selector=selector,
        algorithm=_algorithm(algorithm),
        identity=identity,
        header=_canonicalization(header),
        body=_canonicalization(body or "simple"),
        names=names,
        body_hash=_octets(tags["bh"]),
        value=_octets(tags["b"]),
        length=_number(tags, "l"),
        expires=expires,
        field=field,
    )


def read_key(records: Sequence[bytes], signature: Signature, /) -> Key:
    """The key of a signature, from the TXT records under its name. Raises Unusable (RFC 6376, 6.1.2)."""
    if len(records) != 1:
        raise Unusable("no key" if not records else "several keys under one name")
    if len(records[0]) > MAX_SIGNATURE:
        raise Unusable("the key record is too large")
    tags = _tags(records[0])
    if tags.get("v", "DKIM1") != "DKIM1":
        raise Unusable("the key has another version")
    kind = tags.get("k", "rsa").lower()
    if kind != signature.algorithm.partition("-")[0]:
        raise Unusable("the key is of another kind")
    if "h" in tags and "sha256" not in [each.strip().lower() for each in tags["h"].split(":")]:
        raise Unusable("the key is not for SHA-256")
    if not {"*", "email"} & {each.strip().lower() for each in tags.get("s", "*").split(":")}:
        raise Unusable("the key is not for mail")
    flags = {each.strip().lower() for each in tags.get("t", "").split(":")}
    if "y" in flags:
        raise Unusable("the key is for tests")
    if not tags.get("p"):
        raise Unusable("the key is revoked")
    key = Key("ed25519" if kind == "ed25519" else "rsa", _octets(tags["p"]), "s" in flags)
    if key.strict and signature.identity != signature.domain:
        raise Unusable("the key is for its own domain alone")
    return key


def require_current(signature: Signature, now: datetime) -> None:
    """Raises Unusable for an expired one."""
    if signature.expires is not None and now.timestamp() > signature.expires:
        raise Unusable("the signature has expired")


def require_body(signature: Signature, body: bytes) -> None:
    """Raises Unusable unless the whole body is what was signed. Takes time that grows with its length.

    With `l=` anybody can append to the body: it is taken only where it covers all of it (RFC 6376, 8.2).
    """
    size, digest = 0, hashlib.sha256()
    for piece in _canonical_body(body, signature.body):
        size += len(piece)
        digest.update(piece)
    if signature.length is not None and signature.length != size:
        raise Unusable("the signature covers a part of the body alone (l=)")
    if digest.digest() != signature.body_hash:
        raise Unusable("the body was changed")


def signed_octets(fields: Sequence[Field], signature: Signature) -> bytes:
    """What is signed: the fields that it names, from the last up (5.4.2), then the signature without `b=` (3.7)."""
    stacks: dict[str, list[bytes]] = {}
    for field in fields:
        stacks.setdefault(field.name, []).append(field.raw)
    chosen = [stacks[name].pop() for name in signature.names if stacks.get(name)]
    label, colon, value = signature.field.raw.partition(b":")
    own = label + colon + _B_VALUE.sub(rb"\1", value.removesuffix(b"\r\n"), count=1)
    canonical = [_canonical_field(raw, signature.header) for raw in chosen]
    return b"".join([*canonical, _canonical_field(own, signature.header).removesuffix(b"\r\n")])


def _canonical_field(raw: bytes, way: Canonicalization) -> bytes:
    """RFC 6376, 3.4.1 and 3.4.2."""
    if way == "simple":
        return raw
    name, _, value = raw.partition(b":")
    unfolded = _SPACES.sub(b" ", value.replace(b"\r\n", b"")).strip(b" ")
    return name.strip(b" \t").lower() + b":" + unfolded + b"\r\n"


def _canonical_body(body: bytes, way: Canonicalization) -> Iterator[bytes]:
    """RFC 6376, 3.4.3 and 3.4.4, in pieces that end where lines end."""
    end = len(body.rstrip(b"\r\n")) if way == "simple" else _end_of_text(body)
    at = 0
    while at < end:
        cut = body.find(b"\r\n", min(at + PIECE, end), end)
        stop = end if cut < 0 else cut + 2
        piece = body[at:stop]
        if way == "relaxed":
            piece = _SPACES.sub(b" ", piece).replace(b" \r\n", b"\r\n")
            if stop == end:
                piece = piece.removesuffix(b" ")
        yield piece
        at = stop
    if end or way == "simple":
        yield b"\r\n"


def _end_of_text(body: bytes) -> int:
    """Where the last line ends that holds more than white space."""
    return len(body.rstrip(b"\r\n \t"))


def _tags(value: bytes) -> dict[str, str]:
    """A tag list (RFC 6376, 3.2), without white space around values. Raises Unusable."""
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        text = value.decode("utf-8", "replace")  # RFC 8616: i= may hold UTF-8
    tags: dict[str, str] = {}
    parts = text.split(";")
    if not parts[-1].strip():
        parts.pop()
    for part in parts:
        found = _TAG.fullmatch(part)
        if found is None or found[1] in tags:
            raise Unusable("a tag is malformed or stands twice")
        tags[found[1]] = found[2].strip(" \t\r\n")
    return tags


def _number(tags: dict[str, str], name: str) -> int | None:
    text = tags.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,76}", text):
        raise Unusable(f"{name}= is no number")
    return int(text)


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(re.sub(r"[ \t\r\n]+", "", text), validate=True)
    except (binascii.Error, ValueError):
        raise Unusable("a value is not base64") from None


def _algorithm(text: str) -> Algorithm:
    match text:
        case "rsa-sha256" | "ed25519-sha256":
            return text
    raise Unusable("the algorithm is not accepted")  # RFC 8301, 3.1: no SHA-1


def _canonicalization(text: str) -> Canonicalization:
    match text:
        case "simple" | "relaxed":
            return text
    raise Unusable("the canonicalization is unknown")
