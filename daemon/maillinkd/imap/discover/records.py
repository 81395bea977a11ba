"""What DNS says of a domain's mail: SRV (RFC 6186, RFC 8314) and MX records. The only file that imports dnspython."""

from dataclasses import dataclass
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from maillinkd.imap.discover.offer import Offer, Tls, host_name

_SERVICES: tuple[tuple[str, Tls], ...] = (("_imaps._tcp", "implicit"), ("_imap._tcp", "starttls"))
_RECORDS_LIMIT = 10


class NoRecords(Exception):
    """DNS gave nothing that can be used; says why. Safe to show."""


@dataclass(frozen=True, slots=True)
class Resolver:
    """Asks the name servers of this machine, or those given as (address, port)."""

    servers: tuple[tuple[str, int], ...] = ()
    deadline: float = 5.0
    """Seconds for one question, with all its repeats."""

    async def mx(self, domain: str) -> tuple[str, ...]:
        """The MX hosts of a domain, the preferred first. Raises NoRecords."""
        records = sorted(await self._ask(domain, "MX"), key=lambda record: record.preference)
        hosts = tuple(host for record in records if (host := _host(record.exchange)))
        if not hosts:  # "." is a domain that receives no mail (RFC 7505)
            raise NoRecords("the domain receives no mail")
        return hosts

    async def imap(self, domain: str, address: str, service: str) -> tuple[Offer, ...]:
        """The servers of `_imaps._tcp` or `_imap._tcp`, in order of priority, then weight. Raises NoRecords.

        With `_imap` STARTTLS is required: RFC 6186 leaves it to the client, and the client is we.
        """
        tls = dict(_SERVICES)[service]
        records = await self._ask(f"{service}.{domain}", "SRV")
        records.sort(key=lambda record: (record.priority, -record.weight))
        local = address.rpartition("@")[0]
        offers = tuple(
            Offer(host, record.port, tls, (address, local), f"SRV {service}.{domain}", evidence="dns")
            for record in records
            if record.port and (host := _host(record.target))
        )
        if not offers:  # "." is "decidedly not available" (RFC 6186, 3.4)
            raise NoRecords("the service is not offered")
        return offers

    async def _ask(self, name: str, kind: str) -> list[Any]:
        try:
            resolver = self._resolver()
            answer = await resolver.resolve(dns.name.from_text(name), kind, lifetime=self.deadline)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            raise NoRecords("no such record") from None
        except dns.exception.Timeout:
            raise NoRecords(f"no answer within {self.deadline:g} s") from None
        except (dns.exception.DNSException, OSError) as error:
            raise NoRecords(f"the question failed ({type(error).__name__})") from error
        return list(answer)[:_RECORDS_LIMIT]

    def _resolver(self) -> dns.asyncresolver.Resolver:
        resolver = dns.asyncresolver.Resolver(configure=not self.servers)
        if self.servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self.servers]
        return resolver


def services() -> tuple[str, ...]:
    """The services that are asked for, the better first (RFC 8314, 5.1: implicit TLS before STARTTLS)."""
    return tuple(service for service, _ in _SERVICES)


def _host(name: dns.name.Name) -> str:
    """As we compare it; "" where there is none."""
    try:
        return host_name(name.to_text())
    except ValueError:
        return ""
