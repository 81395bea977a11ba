"""Whether a mail is its author's: SPF, DKIM and DMARC together, through the real listener and a real name server."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from ipaddress import ip_network
from time import monotonic
from typing import Any

import pytest

from maillinkd.mail.delivery import Received
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.smtp.auth.check import MAX_SIGNATURES, Authenticator
from maillinkd.smtp.auth.names import Dns
from maillinkd.smtp.auth.resolver import Resolver
from smtp.auth.signing import Table, ed25519_key, key_record, rsa_key, sign
from smtp.dialogue import UNIVERSAL, Client, Inbound, listening
from system.dns import SERVFAIL, SILENCE, NameServer, name_server

MAIL = (
    b"From: Anna <anna@ourco.example>\r\nTo: carla@client.example\r\nSubject: New roof\r\n"
    b"Date: Sun, 1 Mar 2026 10:00:00 +0000\r\n\r\nGood morning.\r\n"
)
ZONE = {
    "ourco.example": [("TXT", "v=spf1 ip4:192.0.2.0/24 include:partner.example -all")],
    "_dmarc.ourco.example": [("TXT", "v=DMARC1; p=reject")],
    "bounce.ourco.example": [("TXT", "v=spf1 ip4:192.0.2.0/24 -all")],
    "partner.example": [("TXT", "v=spf1 ip4:198.51.100.7 -all")],
    "evil.example": [("TXT", "v=spf1 +all")],
    "one._domainkey.ourco.example": [("TXT", key_record(rsa_key()))],
    "two._domainkey.ourco.example": [("TXT", key_record(ed25519_key()))],
    "one._domainkey.mail.ourco.example": [("TXT", key_record(rsa_key()))],
    "one._domainkey.evil.example": [("TXT", key_record(rsa_key()))],
    "gone._domainkey.ourco.example": [("TXT", "v=DKIM1; p=")],
    "broken._domainkey.ourco.example": SERVFAIL,
}
STRICT = {"_dmarc.ourco.example": [("TXT", "v=DMARC1; p=reject; aspf=s; adkim=s")]}
FAILING = {"ourco.example": SERVFAIL}
INSIDE, OUTSIDE = "192.0.2.7", "203.0.113.9"
BOTH_FROM = MAIL.replace(b"From: Anna", b"From: Ben <ben@ourco.example>\r\nFrom: Anna")


@pytest.fixture(scope="module")
def server() -> Iterator[NameServer]:
    with name_server(ZONE) as server:
        yield server


@dataclass(frozen=True)
class Case:
    client: str = OUTSIDE
    sender: str = "anna@ourco.example"
    raw: bytes = MAIL
    zone: dict[str, Any] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("case", "standing", "spf", "dkim"),
    [
        pytest.param(Case(INSIDE), "pass", "pass", "none", id="SPF passes"),
        pytest.param(Case("198.51.100.7"), "pass", "pass", "none", id="SPF passes by an include"),
        pytest.param(Case(), "fail", "fail", "none", id="SPF fails, no signature"),
        pytest.param(Case(raw=sign(MAIL, rsa_key())), "pass", "fail", "pass", id="DKIM passes, SPF fails"),
        pytest.param(Case(raw=sign(MAIL, ed25519_key(), selector="two")), "pass", "fail", "pass", id="Ed25519"),
        pytest.param(
            Case(sender="x@evil.example"), "fail", "unaligned", "none", id="SPF would pass for another domain"
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key(), "evil.example")), "fail", "fail", "unaligned", id="another's signature"
        ),
        pytest.param(
            Case(INSIDE, "x@bounce.ourco.example"), "pass", "pass", "none", id="a subdomain is aligned"
        ),
        pytest.param(
            Case(INSIDE, "x@bounce.ourco.example", zone=STRICT), "fail", "unaligned", "none", id="no SPF if strict"
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key(), "mail.ourco.example"), zone=STRICT), "fail", "fail", "unaligned",
            id="not if DKIM is strict",
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key()).replace(b"New roof", b"Old roof")), "fail", "fail", "fail", id="changed"
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key(), more="l=4; ") + b"P.S.\r\n"), "fail", "fail", "fail", id="appended"
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key(), more="x=1000000000; ")), "fail", "fail", "fail", id="expired"
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key(), selector="gone")), "fail", "fail", "fail", id="key revoked"
        ),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key(), selector="broken")), "temporary", "fail", "temperror", id="key not given"
        ),
        pytest.param(Case(INSIDE, zone=FAILING), "temporary", "temperror", "none", id="DNS fails"),
        pytest.param(
            Case(raw=sign(MAIL, rsa_key()), zone=FAILING), "pass", "temperror", "pass", id="DNS fails, DKIM passes"
        ),
        pytest.param(Case(INSIDE, raw=BOTH_FROM), "fail", "unchecked", "unchecked", id="two From fields"),
        pytest.param(
            Case(raw=b"From: Ben <ben@ourco.example>\r\n" + sign(MAIL, rsa_key())), "fail", "unchecked", "unchecked",
            id="a From on top of a signed one",
        ),
        pytest.param(
            Case(raw=b"Subject: Other\r\n" + sign(MAIL, rsa_key())), "fail", "fail", "fail",
            id="a Subject on top of a signed one",
        ),
        pytest.param(
            Case(raw=b"Authentication-Results: mx.ourco.example; dmarc=pass header.from=ourco.example\r\n" + MAIL),
            "fail", "fail", "none", id="results that the client wrote",
        ),
        pytest.param(Case(INSIDE, ""), "fail", "none", "none", id="null sender: the HELO name counts"),
        pytest.param(
            Case(zone={"ourco.example": [("TXT", "v=spf1 include:ourco.example +all")]}), "fail", "permerror", "none",
            id="a loop",
        ),
    ],
)  # fmt: skip
async def test_the_matrix(server: NameServer, case: Case, standing: str, spf: str, dkim: str) -> None:
    """The client's address is said by a relay that is trusted for it, and writes no results."""
    server.zone = ZONE | case.zone
    inbound = Inbound()
    check = Authenticator(Resolver([server.endpoint], question=1), authserv_id="mx.ourco.example")
    relays = (ip_network("127.0.0.1"),)

    async with listening(inbound, trusted_relays=relays) as listener, await Client.greeted(listener) as client:
        assert (await client.ask(f"XCLIENT ADDR={case.client} NAME=client.ourco.example")).startswith("220 ")
        assert (await client.ask("EHLO host.ourco.example")).startswith("250-")
        assert (await client.mail(case.raw + b".\r\n", sender=case.sender)).startswith("250 ")
    (received,) = inbound.taken
    verdict = await check(replace(received, relay=""))

    assert (verdict.standing, verdict.spf, verdict.dkim) == (standing, spf, dkim)


def received(raw: bytes = MAIL, **changes: Any) -> Received:
    given = {
        "sender": "anna@ourco.example",
        "recipients": (UNIVERSAL,),
        "client_address": OUTSIDE,
        "helo": "x.example",
    }
    return Received(**given | {"raw": raw, "received_at": datetime(2026, 3, 1, tzinfo=UTC)} | changes)


def records(zone: dict[str, Any]) -> Table:
    return Table({name: None if found == SERVFAIL else found for name, found in zone.items()})


async def check(mail: Received, zone: dict[str, Any] = ZONE, dns: Dns | None = None, **options: Any) -> Verdict:
    return await Authenticator(dns or records(zone), authserv_id="mx.ourco.example", **options)(mail)


RELAY = "10.0.0.1"
AR = b"Authentication-Results: mx.ourco.example; "


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        (b"dmarc=pass header.from=ourco.example", "pass"),
        (b"dmarc=pass header.from=other.example", "fail"),
        (b"dmarc=fail header.from=ourco.example", "fail"),
        (b"spf=pass smtp.mailfrom=anna@ourco.example", "pass"),
        (b"spf=pass smtp.mailfrom=bounce.ourco.example", "pass"),
        (b"spf=pass smtp.mailfrom=evil.example", "fail"),
        (b"spf=pass", "fail"),
        (b"spf=softfail smtp.mailfrom=ourco.example", "fail"),
        (b"dkim=pass header.d=ourco.example", "pass"),
        (b"dkim=pass header.i=@ourco.example", "pass"),
        (b"dkim=fail header.d=ourco.example; dkim=pass header.d=mail.ourco.example", "pass"),
        (b"dkim=pass header.d=evil.example header.d=ourco.example", "fail"),
        (b"auth=pass smtp.auth=anna@ourco.example", "fail"),
        (b"none", "fail"),
    ],
)
async def test_what_a_relay_says(results: bytes, expected: str) -> None:
    raw = AR + results + b"\r\n" + MAIL
    verdict = await check(received(raw, relay=RELAY, client_address=RELAY))

    assert (verdict.standing, verdict.relay) == (expected, RELAY)


async def test_who_is_no_relay_says_nothing() -> None:
    raw = AR + b"dmarc=pass header.from=ourco.example\r\n" + MAIL

    assert (await check(received(raw))).standing is Standing.FAIL


@pytest.mark.parametrize(
    ("raw", "client", "expected"),
    [
        (MAIL, RELAY, ("fail", "unchecked", "none")),
        (MAIL, INSIDE, ("pass", "pass", "none")),
        (sign(MAIL, rsa_key()), RELAY, ("pass", "unchecked", "pass")),
        (AR.replace(b"mx.", b"mx2.") + b"dmarc=pass header.from=ourco.example\r\n" + MAIL, RELAY,
         ("fail", "unchecked", "none")),
    ],
)  # fmt: skip
async def test_behind_a_relay_that_writes_no_results(raw: bytes, client: str, expected: tuple[str, ...]) -> None:
    verdict = await check(received(raw, relay=RELAY, client_address=client))

    assert (verdict.standing, verdict.spf, verdict.dkim) == expected


async def test_alignment_that_dns_does_not_tell_is_temporary() -> None:
    zone = ZONE | {"_dmarc.ourco.example": SERVFAIL}
    verdict = await check(received(sender="x@bounce.ourco.example", client_address=INSIDE), zone)
    told = await check(received(AR + b"spf=pass smtp.mailfrom=bounce.ourco.example\r\n" + MAIL, relay=RELAY), zone)

    assert (verdict.standing, told.standing) == (Standing.TEMPORARY, Standing.TEMPORARY)


async def test_five_signatures_are_looked_at() -> None:
    good, bad = sign(MAIL, rsa_key()), b"DKIM-Signature: v=1; a=rsa-sha256\r\n"

    assert (await check(received(bad * (MAX_SIGNATURES - 1) + good))).standing is Standing.PASS
    assert (await check(received(bad * MAX_SIGNATURES + good))).standing is Standing.FAIL


async def test_strangers_domains_are_never_asked_for() -> None:
    dns = records(ZONE)
    raw = sign(MAIL, rsa_key(), "evil.example")
    await check(received(raw, sender="x@evil.example"), dns=dns)

    assert dns.asked == []


async def test_an_answer_that_never_comes_ends_with_the_deadline() -> None:
    with name_server(ZONE | {"ourco.example": SILENCE, "one._domainkey.ourco.example": SILENCE}) as server:
        began = monotonic()
        verdict = await check(
            received(sign(MAIL, rsa_key())), dns=Resolver([server.endpoint], question=8), deadline=0.3
        )

    assert (verdict.standing, verdict.spf) == (Standing.TEMPORARY, "temperror")
    assert monotonic() - began < 3


async def test_the_loop_goes_on_while_a_large_body_is_hashed() -> None:
    """Twenty million octets take a second or so; nobody else waits for them."""
    raw = sign(MAIL + b"words and  words \t\r\n" * 500_000, rsa_key())
    gaps, last, done = [0.0], monotonic(), asyncio.Event()

    async def watch() -> None:
        nonlocal last
        while not done.is_set():
            await asyncio.sleep(0)
            gaps.append(monotonic() - last)
            last = monotonic()

    watching = asyncio.create_task(watch())
    verdict = await check(received(raw))
    done.set()
    await watching

    assert verdict.dkim == "pass"
    assert max(gaps) < 0.5


@pytest.mark.parametrize(
    "raw", [b"", b"\r\n", b"\r\n\r\n", b"From: \xff\r\n\r\n", b"x" * 300_000, b"From: a@b.c\n\n"]
)
async def test_whatever_comes_there_is_a_verdict(raw: bytes) -> None:
    assert (await check(received(raw))).standing is Standing.FAIL
