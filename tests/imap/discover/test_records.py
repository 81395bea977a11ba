"""SRV and MX records, asked of a name server of the test's own."""

import time

import pytest

from imap.discover.internet import name_server
from maillinkd.imap.discover.records import NoRecords, Resolver, services

ADDRESS = "anna@ourco.example"
ZONE = {
    "_imaps._tcp.ourco.example. SRV": [
        "20 0 993 late.ourco.example.", "10 5 993 Few.ourco.example.", "10 9 9993 imap.ourco.example.",
    ],
    "_imap._tcp.ourco.example. SRV": ["0 0 143 imap.ourco.example."],
    "_imaps._tcp.none.example. SRV": ["0 0 0 ."],
    "_imaps._tcp.empty.example. SRV": [],
    "_imaps._tcp.broken.example. SRV": ["SERVFAIL"],
    "ourco.example. MX": ["20 second.example.", "10 first.example."],
    "null.example. MX": ["0 ."],
}  # fmt: skip


def places(offers: object) -> list[tuple[str, int, str]]:
    return [(offer.host, offer.port, offer.tls) for offer in offers]  # type: ignore[attr-defined]


async def test_srv_records_come_in_order_of_priority_then_weight() -> None:
    async with name_server(ZONE) as server:
        offers = await Resolver((server,)).imap("ourco.example", ADDRESS, "_imaps._tcp")

    assert places(offers) == [
        ("imap.ourco.example", 9993, "implicit"),
        ("few.ourco.example", 993, "implicit"),
        ("late.ourco.example", 993, "implicit"),
    ]
    assert offers[0].usernames == (ADDRESS, "anna")
    assert {offer.evidence for offer in offers} == {"dns"}


async def test_imap_without_s_means_starttls() -> None:
    async with name_server(ZONE) as server:
        offers = await Resolver((server,)).imap("ourco.example", ADDRESS, "_imap._tcp")

    assert places(offers) == [("imap.ourco.example", 143, "starttls")]
    assert services() == ("_imaps._tcp", "_imap._tcp")


async def test_mx_hosts_come_in_order_of_preference() -> None:
    async with name_server(ZONE) as server:
        assert await Resolver((server,)).mx("ourco.example") == ("first.example", "second.example")


NOTHING = {
    "a target of . is none": ("none.example", "not offered"),
    "no such name": ("nobody.example", "no such record"),
    "a name without such records": ("empty.example", "no such record"),
    "a server that fails": ("broken.example", "failed"),
    "a name that is none": ("a..b", "failed"),
}


@pytest.mark.parametrize(("domain", "why"), NOTHING.values(), ids=NOTHING.keys())
async def test_no_server_by_srv(domain: str, why: str) -> None:
    async with name_server(ZONE) as server:
        with pytest.raises(NoRecords, match=why):
            await Resolver((server,)).imap(domain, ADDRESS, "_imaps._tcp")


async def test_a_domain_that_receives_no_mail() -> None:
    async with name_server(ZONE) as server:
        with pytest.raises(NoRecords, match="receives no mail"):
            await Resolver((server,)).mx("null.example")


async def test_who_does_not_answer_is_waited_for_no_longer_than_said() -> None:
    async with name_server(ZONE) as server:
        began = time.monotonic()
        with pytest.raises(NoRecords, match=r"no answer within 0\.2 s"):
            await Resolver((server,), deadline=0.2).mx("x.silent")

    assert time.monotonic() - began < 2
