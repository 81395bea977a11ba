"""Who is asked for the server of an address, in which order, and what is believed."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from imap.discover.internet import autoconfig, https_server, name_server, server
from maillinkd.imap.discover import https
from maillinkd.imap.discover.offer import Offer
from maillinkd.imap.discover.records import Resolver
from maillinkd.imap.discover.search import Found, Sources, find, first_answering, guesses
from maillinkd.imap.errors import Unreachable

ADDRESS = "anna@ourco.example"


async def looked_up(
    address: str = ADDRESS, zone: Mapping[str, list[str]] | None = None, pages: Mapping[str, bytes] | None = None
) -> Found:
    """`pages`: documents by what their address begins with."""

    async def fetch(url: str) -> bytes:
        for begins, page in (pages or {}).items():
            if url.startswith(begins):
                return page
        raise https.NoDocument("answered 404")

    async with name_server(zone or {}) as names:
        return await find(address, Sources(Resolver((names,), deadline=2), fetch))


def hosts(found: Found) -> list[tuple[str, str]]:
    return [(offer.host, offer.evidence) for offer in found.offers]


async def test_a_provider_of_the_list_is_asked_of_nobody() -> None:
    async def never(url: str) -> bytes:
        raise AssertionError(url)

    found = await find("anna@gmail.com", Sources(Resolver((("127.0.0.1", 1),)), never))

    assert hosts(found) == [("imap.gmail.com", "list")]
    assert found.offers[0].provider == "google"


async def test_a_provider_without_imap_says_so() -> None:
    found = await find("anna@tuta.com")

    assert (found.offers, "has no IMAP" in found.note) == ((), True)


async def test_a_domain_of_one_s_own_is_found_by_its_mx() -> None:
    found = await looked_up(zone={"ourco.example. MX": ["10 aspmx.l.google.com."]})

    assert hosts(found) == [("imap.gmail.com", "list")]
    assert "by MX aspmx.l.google.com" in found.offers[0].source


async def test_who_receives_the_mail_may_stand_in_the_database() -> None:
    """What led there came by plain DNS, so it is not believed as the database itself is."""
    pages = {"https://autoconfig.thunderbird.net/v1.1/hoster.example": autoconfig(server("imap.hoster.example"))}

    found = await looked_up(zone={"ourco.example. MX": ["10 mx1.hoster.example."]}, pages=pages)

    assert hosts(found) == [("imap.hoster.example", "dns")]
    assert found.offers[0].leads_away_from("ourco.example")


async def test_the_sources_in_their_order() -> None:
    found = await looked_up(
        zone={
            "ourco.example. MX": ["10 smtp.google.com."],
            "_imaps._tcp.ourco.example. SRV": ["0 0 993 srv.ourco.example."],
            "_imap._tcp.ourco.example. SRV": ["0 0 143 srv.ourco.example."],
        },
        pages={
            "https://autoconfig.ourco.example/": autoconfig(server("own.ourco.example")),
            "https://ourco.example/.well-known/": autoconfig(server("known.ourco.example")),
            "https://autoconfig.thunderbird.net/v1.1/ourco.example": autoconfig(server("db.hoster.example")),
        },
    )

    assert hosts(found) == [
        ("imap.gmail.com", "list"),
        ("own.ourco.example", "https"),
        ("known.ourco.example", "https"),
        ("db.hoster.example", "https"),
        ("srv.ourco.example", "dns"),
        ("srv.ourco.example", "dns"),
    ]


async def test_a_place_that_two_name_is_offered_once() -> None:
    found = await looked_up(
        zone={"_imaps._tcp.ourco.example. SRV": ["0 0 993 imap.ourco.example."]},
        pages={"https://autoconfig.ourco.example/": autoconfig(server(username="%EMAILLOCALPART%"))},
    )

    assert hosts(found) == [("imap.ourco.example", "https")]
    assert found.offers[0].usernames[0] == "anna"


async def test_each_source_says_why_it_gave_nothing() -> None:
    found = await looked_up(
        zone={"_imaps._tcp.ourco.example. SRV": ["0 0 0 ."]},
        pages={"https://autoconfig.ourco.example/": autoconfig(server(socket="plain"))},
    )

    assert found.offers == ()
    assert [(tried.source, tried.outcome) for tried in found.tried] == [
        ("MX ourco.example", "no such record"),
        (
            "https://autoconfig.ourco.example/mail/config-v1.1.xml",
            "names an IMAP server without TLS, which is not used",
        ),
        ("https://ourco.example/.well-known/autoconfig/mail/config-v1.1.xml", "answered 404"),
        ("https://autoconfig.thunderbird.net/v1.1/ourco.example", "answered 404"),
        ("SRV _imaps._tcp.ourco.example", "the service is not offered"),
        ("SRV _imap._tcp.ourco.example", "no such record"),
    ]


async def test_the_sources_are_asked_at_the_same_time() -> None:
    """Each of the documents waits until all three are asked for."""
    together = asyncio.Barrier(3)

    async def fetch(url: str) -> bytes:
        async with asyncio.timeout(5):
            await together.wait()
        raise https.NoDocument("answered 404")

    async with name_server({}) as names:
        found = await find(ADDRESS, Sources(Resolver((names,)), fetch))

    assert [tried.outcome for tried in found.tried].count("answered 404") == 3


async def test_a_document_of_a_real_server(tmp_path: Path) -> None:
    path = "/mail/config-v1.1.xml?emailaddress=anna%40ourco.example"
    with https_server({path: (200, autoconfig(server()))}, tmp_path) as (port, context):

        async def fetch(url: str) -> bytes:
            place = url.replace("https://autoconfig.ourco.example/", f"https://localhost:{port}/")
            return await https.fetch(place, largest=10_000, context=context)

        async with name_server({}) as names:
            found = await find(ADDRESS, Sources(Resolver((names,)), fetch))

    assert hosts(found) == [("imap.ourco.example", "https")]


def test_guesses_stay_in_the_domain_and_have_tls() -> None:
    offers = guesses(ADDRESS)

    assert [offer.place for offer in offers] == [
        "imap.ourco.example:993",
        "mail.ourco.example:993",
        "ourco.example:993",
        "imap.ourco.example:143 (STARTTLS)",
        "mail.ourco.example:143 (STARTTLS)",
        "ourco.example:143 (STARTTLS)",
    ]
    assert not any(offer.leads_away_from("ourco.example") for offer in offers)


async def test_the_first_in_order_that_answers_is_taken() -> None:
    async def probe(offer: Offer) -> frozenset[str]:
        if offer.host == "imap.ourco.example":
            raise Unreachable("does not answer")
        return frozenset({offer.host.upper()})

    answer = await first_answering(guesses(ADDRESS), probe)

    assert answer.offer is not None
    assert (answer.offer.place, answer.capabilities) == ("mail.ourco.example:993", {"MAIL.OURCO.EXAMPLE"})
    assert answer.tried[0].outcome == "does not answer"


async def test_none_that_answers_is_none() -> None:
    async def probe(offer: Offer) -> frozenset[str]:
        raise Unreachable("no")

    assert (await first_answering(guesses(ADDRESS), probe)).offer is None
