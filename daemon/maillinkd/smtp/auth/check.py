"""Whether a mail is its author's: SPF and DKIM aligned with From, or what a trusted relay says (linking.md L14).

Never raises for what a mail or DNS may hold, and never waits longer than `DEADLINE`. DNS that fails is temporary;
it never proves anything.
"""

import asyncio
from collections.abc import Sequence
from ipaddress import ip_address

from maillinkd.mail.author import Disguised, author_of, every_field, repeated
from maillinkd.mail.delivery import Received
from maillinkd.mail.header import Field, split
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.smtp.auth import dkim, keys, results, spf
from maillinkd.smtp.auth.alignment import Alignment, Identifier, may_align
from maillinkd.smtp.auth.names import Dns, DnsTemporary
from maillinkd.smtp.auth.results import Results

DEADLINE = 20.0
"""Seconds for everything that a mail's check may take (RFC 7208, 4.6.4)."""
MAX_SIGNATURES = 5
LARGE_AT_A_TIME = 4
"""Bodies that are hashed at the same time."""

UNALIGNED = "unaligned"
"""Whatever it would prove, it is not for the domain in From: not looked up."""
UNCHECKED = "unchecked"

_Found = tuple[str, bool, str]
"""The word for it, whether it passed aligned, and what to say of it."""


class Authenticator:
    """Checks mail. One for the daemon: DNS answers are remembered."""

    def __init__(self, dns: Dns, *, authserv_id: str = "", deadline: float = DEADLINE) -> None:
        """`authserv_id`: under which trusted relays write their results; "" if they write none."""
        self._dns = dns
        self._authserv_id = authserv_id
        self._deadline = deadline
        self._hashing = asyncio.Semaphore(LARGE_AT_A_TIME)

    async def __call__(self, received: Received) -> Verdict:
        """The verdict on a mail as it came by SMTP."""
        head, body = split(received.raw)
        try:
            fields = every_field(head)
            domain = author_of(fields).rpartition("@")[2]
        except Disguised as error:
            return Verdict(Standing.FAIL, why=str(error))
        alignment = Alignment(self._dns, domain)
        try:
            async with asyncio.timeout(self._deadline):
                told = results.believed(fields, self._authserv_id) if received.relay else None
                if told is not None:
                    return await _as_told(told, received.relay, alignment, domain)
                by_spf = await self._spf(received, alignment, domain)
                by_dkim = await self._dkim(received, fields, body, alignment, domain)
        except TimeoutError:
            return Verdict(Standing.TEMPORARY, "temperror", "temperror", f"no result within {self._deadline:g} s")
        except DnsTemporary as error:
            return Verdict(Standing.TEMPORARY, why=str(error), relay=received.relay)
        return _verdict(by_spf, by_dkim)

    async def _spf(self, received: Received, alignment: Alignment, author: str) -> _Found:
        """RFC 7208 for MAIL FROM, or for HELO where that is empty (2.4)."""
        if received.relay and received.client_address == received.relay:
            return UNCHECKED, False, "the relay does not say where it came from"
        try:
            client = ip_address(received.client_address)
        except ValueError:
            return UNCHECKED, False, "no client address"
        sender = received.sender or f"postmaster@{received.helo}"
        query = spf.Query(client, sender, received.helo)
        if not may_align(query.domain.lower().rstrip("."), author):
            return UNALIGNED, False, f"MAIL FROM is of {query.domain}"
        result, why = await spf.check_host(self._dns, query)
        if result is not spf.Result.PASS:
            return str(result), False, why
        return await _aligned(alignment, query.domain.lower().rstrip("."), "spf", str(result))

    async def _dkim(
        self, received: Received, fields: Sequence[Field], body: bytes, alignment: Alignment, author: str
    ) -> _Found:
        """RFC 6376 for the first signatures that could be aligned, until one is."""
        found: _Found = ("none", False, "no DKIM signature")
        temporary: _Found | None = None
        tried = 0
        for field in fields:
            if field.name != dkim.FIELD:
                continue
            tried += 1
            if tried > MAX_SIGNATURES:
                break
            found = await self._signature(field, received, fields, body, alignment, author)
            if found[1]:
                return found
            if found[0] == "temperror":
                temporary = found
        return temporary or found

    async def _signature(
        self,
        field: Field,
        received: Received,
        fields: Sequence[Field],
        body: bytes,
        alignment: Alignment,
        author: str,
    ) -> _Found:
        try:
            signature = dkim.read_signature(field)
            if not may_align(signature.domain, author):
                return UNALIGNED, False, f"the signature is of {signature.domain}"
            if name := repeated(tuple(fields)):
                return "fail", False, f"{name} stands twice"
            dkim.require_current(signature, received.received_at)
            key = dkim.read_key(await self._dns.txt(signature.key_name), signature)
            async with self._hashing:
                await asyncio.to_thread(_require_signed, key, signature, fields, body)
        except dkim.Unusable as error:
            return "fail", False, str(error)
        except DnsTemporary as error:
            return "temperror", False, str(error)
        return await _aligned(alignment, signature.domain, "dkim", "pass")


def _require_signed(key: dkim.Key, signature: dkim.Signature, fields: Sequence[Field], body: bytes) -> None:
    keys.require_signed(key, signature.value, dkim.signed_octets(fields, signature))
    dkim.require_body(signature, body)


async def _aligned(alignment: Alignment, domain: str, identifier: Identifier, word: str) -> _Found:
    try:
        if await alignment.holds(domain, identifier):
            return word, True, ""
    except DnsTemporary as error:
        return "temperror", False, str(error)
    return UNALIGNED, False, f"{domain} is not aligned with From"


def _verdict(by_spf: _Found, by_dkim: _Found) -> Verdict:
    words = by_spf[0], by_dkim[0]
    if by_spf[1] or by_dkim[1]:
        return Verdict(Standing.PASS, *words)
    why = "; ".join(dict.fromkeys(each[2] for each in (by_spf, by_dkim) if each[2]))
    return Verdict(Standing.TEMPORARY if "temperror" in words else Standing.FAIL, *words, why=why)


async def _as_told(told: Results, relay: str, alignment: Alignment, author: str) -> Verdict:
    """RFC 8601, 2.7: what the relay proved, held against From by ourselves. Raises DnsTemporary."""
    words = {"spf": "none", "dkim": "none"}
    passed = False
    for method in told.methods:
        if method.name == "dmarc":
            passed |= method.result == "pass" and _domain(method.properties.get("header.from", "")) == author
        if method.name not in words or words[method.name] == "pass":
            continue
        words[method.name] = method.result
        if method.result == "pass":
            identifier: Identifier = "spf" if method.name == "spf" else "dkim"
            aligned = await alignment.holds(_proven(method), identifier)
            passed |= aligned
            words[method.name] = "pass" if aligned else UNALIGNED
    why = "" if passed else f"{told.authserv_id} found nothing that is aligned with From"
    return Verdict(Standing.PASS if passed else Standing.FAIL, words["spf"], words["dkim"], why, relay)


def _proven(method: results.Method) -> str:
    """The domain that a method speaks of; "" where it does not say."""
    names = ("header.d", "header.i") if method.name == "dkim" else ("smtp.mailfrom", "smtp.helo")
    return _domain(next((method.properties[name] for name in names if name in method.properties), ""))


def _domain(text: str) -> str:
    return text.rpartition("@")[2].lower().rstrip(".")
