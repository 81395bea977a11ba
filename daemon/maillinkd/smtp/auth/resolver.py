"""DNS as the checks ask for it, through dnspython. The only file of the SMTP door that imports it."""

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Literal

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from maillinkd.smtp.auth.names import Address, DnsTemporary

QUESTION = 8.0
"""Seconds for one question, with all its repeats."""
CACHED = 1_000
"""Answers that are remembered, each for as long as it says of itself."""
MAX_RECORDS = 100
"""Of one answer; a set of records that is larger is not looked at any further."""


class Resolver:
    """Asks the name servers of this machine, or those given as (address, port). Remembers answers."""

    def __init__(self, servers: Sequence[tuple[str, int]] = (), question: float = QUESTION) -> None:
        """`question`: seconds for each. Raises OSError or ValueError where the machine names no server."""
        try:
            self._resolver = dns.asyncresolver.Resolver(configure=not servers)
        except dns.exception.DNSException as error:
            raise OSError(f"no name server is configured on this machine ({type(error).__name__})") from error
        if servers:
            self._resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in servers]
        self._resolver.cache = dns.resolver.LRUCache(CACHED)
        self._question = question

    async def txt(self, name: str) -> tuple[bytes, ...]:
        return tuple(b"".join(record.strings) for record in await self._ask(name, "TXT"))

    async def addresses(self, name: str, version: Literal[4, 6]) -> tuple[Address, ...]:
        return tuple(ip_address(record.address) for record in await self._ask(name, "A" if version == 4 else "AAAA"))

    async def mx(self, name: str) -> tuple[str, ...]:
        records = sorted(await self._ask(name, "MX"), key=lambda record: record.preference)
        return tuple(_text(record.exchange) for record in records)

    async def names(self, address: Address) -> tuple[str, ...]:
        return tuple(_text(record.target) for record in await self._ask(address.reverse_pointer, "PTR"))

    async def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            asked = dns.name.from_text(name.removesuffix(".") + ".")
        except dns.exception.DNSException:  # no name at all: empty or long labels
            return []
        try:
            answer = await self._resolver.resolve(asked, kind, lifetime=self._question)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []
        except dns.exception.Timeout:
            raise DnsTemporary(f"DNS did not answer for {name} within {self._question:g} s") from None
        except (dns.exception.DNSException, OSError) as error:
            raise DnsTemporary(f"DNS failed for {name} ({type(error).__name__})") from error
        return list(answer)[:MAX_RECORDS]


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True)
