"""Whether a domain that was proven may speak for the domain in From: DMARC's alignment (RFC 9989, 4.4 and 4.10).

The organizational domain is found by the tree walk of RFC 9989, not by a list of public suffixes (as RFC 7489 had
it), so a domain without any DMARC record is its own organizational domain.
"""

import re
from typing import Literal

from maillinkd.smtp.auth.names import Dns

Identifier = Literal["spf", "dkim"]
Record = dict[str, str]

WALK_LABELS = 7
"""From longer names the walk goes on with so many labels (4.10)."""
MAX_RECORD = 4_096

_TAG = re.compile(r"[ \t]*([A-Za-z]+)[ \t]*=[ \t]*([^;]*?)[ \t]*", re.ASCII)


def may_align(domain: str, author: str) -> bool:
    """Whether the two could have an organizational domain in common, before anybody is asked.

    Domains that cannot are not looked up: so only the zones of our own users cost us questions.
    """
    if domain == author:
        return True
    first, second = domain.split("."), author.split(".")
    return len(first) > 1 and len(second) > 1 and first[-2:] == second[-2:]


class Alignment:
    """The alignment with one author's domain. Remembers what it asked. Its methods raise DnsTemporary."""

    def __init__(self, dns: Dns, author: str) -> None:
        """`author`: the domain in From; A-labels, lower case."""
        self._dns = dns
        self._author = author
        self._records: dict[str, Record | None] = {}

    async def holds(self, domain: str, identifier: Identifier) -> bool:
        """Whether a domain that SPF or DKIM has proven is aligned with From."""
        domain = domain.lower()
        if domain == self._author:
            return True
        if not may_align(domain, self._author):
            return False
        own = await self._organizational(self._author)
        policy = await self._record(self._author) or await self._record(own) or {}
        if policy.get("aspf" if identifier == "spf" else "adkim", "r").lower() == "s":
            return False
        return own == await self._organizational(domain)

    async def _organizational(self, domain: str) -> str:
        """RFC 9989, 4.10.2."""
        found = domain
        for below, name in _walk(domain):
            record = await self._record(name)
            if record is None:
                continue
            match record.get("psd", "u").lower():
                case "n":
                    return name
                case "y" if name != domain:
                    return below
            if "." in name:  # no top-level domain is anybody's
                found = name
        return found

    async def _record(self, domain: str) -> Record | None:
        """The one DMARC record of a domain (4.7), None where there is none or more than one."""
        if domain not in self._records:
            texts = await self._dns.txt(f"_dmarc.{domain}")
            read = [record for text in texts if (record := read_record(text)) is not None]
            self._records[domain] = read[0] if len(read) == 1 else None
        return self._records[domain]


def read_record(text: bytes) -> Record | None:
    """The tags of a DMARC record (RFC 9989, 4.8), None for a text that is none. Malformed tags are ignored."""
    parts = text[:MAX_RECORD].decode("utf-8", "replace").split(";")
    tags: Record = {}
    for part in parts:
        if found := _TAG.fullmatch(part):
            tags.setdefault(found[1].lower(), found[2])
    first = _TAG.fullmatch(parts[0])
    return tags if first and first[1].lower() == "v" and first[2] == "DMARC1" else None


def _walk(domain: str) -> list[tuple[str, str]]:
    """RFC 9989, 4.10: the names to ask, each with the one below it; at most eight."""
    labels = domain.split(".")
    names = [domain]
    rest = labels[-WALK_LABELS:] if len(labels) > WALK_LABELS else labels[1:]
    names += [".".join(rest[start:]) for start in range(len(rest))]
    below = [domain, *(".".join(labels[-name.count(".") - 2 :]) for name in names[1:])]
    return list(zip(below, names, strict=True))
