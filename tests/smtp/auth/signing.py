"""Keys and signatures for tests, and DNS from a table."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from maillinkd.smtp.auth.names import Address, DnsTemporary


@cache
def rsa_key(bits: int = 2048) -> RSAPrivateKey:
    return generate_private_key(65_537, bits)


@cache
def ed25519_key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


def key_record(key: RSAPrivateKey | Ed25519PrivateKey, more: str = "") -> str:
    """The TXT record of a key."""
    if isinstance(key, RSAPrivateKey):
        octets = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        kind = "rsa"
    else:
        octets = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        kind = "ed25519"
    return f"v=DKIM1; k={kind}; {more}p={base64.b64encode(octets).decode()}"


def sign(
    raw: bytes,
    key: RSAPrivateKey | Ed25519PrivateKey,
    domain: str = "ourco.example",
    *,
    selector: str = "one",
    names: str = "from:to:subject:date",
    more: str = "",
) -> bytes:
    """The mail with a relaxed/relaxed signature on top (RFC 6376, 3.4 to 3.7), made in the plainest way there is."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = [re.sub(rb"[ \t]+", b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    canonical = b"".join(line + b"\r\n" for line in lines)
    if length := re.search(r"\bl=(\d+)", more):
        canonical = canonical[: int(length[1])]
    algorithm = "rsa-sha256" if isinstance(key, RSAPrivateKey) else "ed25519-sha256"
    digest = base64.b64encode(hashlib.sha256(canonical).digest()).decode()
    own = f"v=1; a={algorithm}; c=relaxed/relaxed; d={domain}; s={selector}; h={names}; {more}bh={digest}; b="
    fields = re.split(rb"\r\n(?![ \t])", head)
    signed = b""
    for name in names.split(":"):
        for index in reversed(range(len(fields))):
            if fields[index].lower().startswith(name.encode() + b":"):
                signed += _relaxed(fields.pop(index)) + b"\r\n"
                break
    signed += _relaxed(b"DKIM-Signature: " + own.encode())
    if isinstance(key, RSAPrivateKey):
        value = key.sign(signed, PKCS1v15(), SHA256())
    else:
        value = key.sign(hashlib.sha256(signed).digest())
    return b"DKIM-Signature: " + own.encode() + base64.b64encode(value) + b"\r\n" + raw


def _relaxed(raw: bytes) -> bytes:
    name, _, value = raw.partition(b":")
    return name.lower() + b":" + re.sub(rb"[ \t\r\n]+", b" ", value).strip()


@dataclass
class Table:
    """DNS from a table: by name, records as (type, text), or an exception's text for a failure."""

    zone: Mapping[str, Sequence[tuple[str, str]] | None]
    """None: the question fails."""
    asked: list[str] = field(default_factory=list)

    def _records(self, name: str, kind: str) -> list[str]:
        name = name.lower().removesuffix(".")
        self.asked.append(f"{name} {kind}")
        records = self.zone.get(name, ())
        if records is None:
            raise DnsTemporary(f"{name} fails")
        return [text for type_, text in records if type_ == kind]

    async def txt(self, name: str) -> tuple[bytes, ...]:
        return tuple(text.encode("latin-1") for text in self._records(name, "TXT"))

    async def addresses(self, name: str, version: Literal[4, 6]) -> tuple[Address, ...]:
        return tuple(map(ip_address, self._records(name, "A" if version == 4 else "AAAA")))

    async def mx(self, name: str) -> tuple[str, ...]:
        return tuple(self._records(name, "MX"))

    async def names(self, address: Address) -> tuple[str, ...]:
        return tuple(self._records(address.reverse_pointer, "PTR"))
