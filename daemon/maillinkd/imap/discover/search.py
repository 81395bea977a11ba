"""Finds the server of an address: asks the list of providers, the domain, Thunderbird's database, DNS; then guesses.

Nothing that is found may lower security: each offer has TLS with a verified certificate, and one that leads out of
the address's domain on the word of plain DNS is for a person to agree to (RFC 6186, 6; RFC 8314, 5.1).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

from maillinkd.imap.discover import autoconfig, https, providers, records
from maillinkd.imap.discover.offer import Offer, Tls, Tried, is_inside
from maillinkd.imap.errors import ImapError, Refused
from maillinkd.imap.response import ProtocolError

Fetch = Callable[[str], Awaitable[bytes]]
Probe = Callable[[Offer], Awaitable[frozenset[str]]]

_GUESSES: tuple[tuple[int, Tls], ...] = ((993, "implicit"), (143, "starttls"))


async def _over_https(url: str) -> bytes:
    return await https.fetch(url, largest=autoconfig.LARGEST)


@dataclass(frozen=True, slots=True)
class Sources:
    """How the world is asked."""

    resolver: records.Resolver = field(default_factory=records.Resolver)
    fetch: Fetch = _over_https
    """Raises https.NoDocument."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the sources say, the most trustworthy first, and how each of them answered."""

    offers: tuple[Offer, ...]
    tried: tuple[Tried, ...]
    note: str = ""
    """Why there is no offer, where that is known."""


@dataclass(frozen=True, slots=True)
class Answering:
    """The server that answers, if one does: what it can do; and what came of the others."""

    offer: Offer | None
    capabilities: frozenset[str]
    tried: tuple[Tried, ...]


async def find(address: str, sources: Sources | None = None) -> Found:
    """Who is said to hold this address's mail. Asks the network only for domains that the list does not know.

    The address is normalised, with an IDNA domain. No source can make this fail.
    """
    sources = sources or Sources()
    domain = address.rpartition("@")[2]
    if provider := providers.of_domain(domain):
        return _by_list(provider, address, f"the list of providers ({provider.name})")
    asked = await asyncio.gather(
        _mx(sources, domain, address),
        *(_document(sources, url, address) for url in autoconfig.addresses_of(domain, address)),
        _document(sources, autoconfig.database_address(domain), address),
        *(_srv(sources, domain, address, service) for service in records.services()),
    )
    offers = [offer for found in asked for offer in found.offers]
    note = " ".join(found.note for found in asked if found.note)
    return Found(_each_once(offers), tuple(tried for found in asked for tried in found.tried), note)


def guesses(address: str) -> tuple[Offer, ...]:
    """Where the server of an address often is: imap.DOMAIN, mail.DOMAIN, DOMAIN itself."""
    local, _, domain = address.rpartition("@")
    return tuple(
        Offer(host, port, tls, (address, local), "a guess", evidence="dns")
        for port, tls in _GUESSES
        for host in (f"imap.{domain}", f"mail.{domain}", domain)
    )


async def first_answering(offers: Sequence[Offer], probe: Probe) -> Answering:
    """Knocks at all at once, without a user name or a password, and takes the first in order that answers.

    `probe` connects, with TLS, and returns what the server can do; raises ImapError.
    """
    answers = await asyncio.gather(*(_probed(offer, probe) for offer in offers))
    tried = tuple(
        Tried(offer.place, "answers" if isinstance(answer, frozenset) else answer)
        for offer, answer in zip(offers, answers, strict=True)
    )
    for offer, answer in zip(offers, answers, strict=True):
        if isinstance(answer, frozenset):
            return Answering(offer, answer, tried)
    return Answering(None, frozenset(), tried)


async def _probed(offer: Offer, probe: Probe) -> frozenset[str] | str:
    try:
        return await probe(offer)
    except (ImapError, Refused, ProtocolError) as error:
        return str(error)


def _by_list(provider: providers.Provider, address: str, source: str) -> Found:
    if not provider.host:
        return Found((), (Tried(source, provider.note),), provider.note)
    return Found((providers.offer_of(provider, address, source),), (Tried(source, provider.host),))


async def _mx(sources: Sources, domain: str, address: str) -> Found:
    """A domain of one's own at a known provider; else what Thunderbird's database knows of who receives its mail."""
    try:
        hosts = await sources.resolver.mx(domain)
    except records.NoRecords as error:
        return Found((), (Tried(f"MX {domain}", str(error)),))
    asked = Tried(f"MX {domain}", " ".join(hosts))
    if provider := providers.of_mx(hosts):
        found = _by_list(provider, address, f"the list of providers ({provider.name}, by MX {hosts[0]})")
        return replace(found, tried=(asked, *found.tried))
    if is_inside(hosts[0], domain):
        return Found((), (asked,))
    above = ".".join(hosts[0].split(".")[-2:])
    found = await _document(sources, autoconfig.database_address(above), address)
    # Which provider was asked for came by plain DNS.
    return Found(tuple(replace(offer, evidence="dns") for offer in found.offers), (asked, *found.tried))


async def _document(sources: Sources, url: str, address: str) -> Found:
    source = url.partition("?")[0]
    try:
        offers = autoconfig.offers_in(await sources.fetch(url), address, source)
    except (https.NoDocument, autoconfig.Unusable) as error:
        return Found((), (Tried(source, str(error)),))
    return Found(offers, (Tried(source, " ".join(offer.place for offer in offers)),))


async def _srv(sources: Sources, domain: str, address: str, service: str) -> Found:
    source = f"SRV {service}.{domain}"
    try:
        offers = await sources.resolver.imap(domain, address, service)
    except records.NoRecords as error:
        return Found((), (Tried(source, str(error)),))
    return Found(offers, (Tried(source, " ".join(offer.place for offer in offers)),))


def _each_once(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """Of equal places the first offer, which knows most."""
    first: dict[tuple[str, int, Tls], Offer] = {}
    for offer in offers:
        first.setdefault((offer.host, offer.port, offer.tls), offer)
    return tuple(first.values())
