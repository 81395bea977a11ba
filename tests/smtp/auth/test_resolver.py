"""DNS through dnspython, against a name server that answers as it likes."""

from collections.abc import Iterator
from ipaddress import ip_address
from time import monotonic

import pytest

from maillinkd.smtp.auth.names import DnsTemporary
from maillinkd.smtp.auth.resolver import MAX_RECORDS, Resolver
from system.dns import SERVFAIL, SILENCE, NameServer, closed_port, name_server

ZONE = {
    "ourco.example": [("TXT", "v=spf1 -all"), ("TXT", "x" * 600), ("MX", "20 two.example"), ("MX", "10 one.example"),
                      ("A", "192.0.2.7"), ("AAAA", "2001:db8::7")],
    "huge.example": [("TXT", "x" * 60_000)],
    "many.example": [("A", f"192.0.{number // 250}.{number % 250}") for number in range(500)],
    "7.2.0.192.in-addr.arpa": [("PTR", "mail.ourco.example")],
    "broken.example": SERVFAIL,
    "silent.example": SILENCE,
    "round.example": [("CNAME", "round.example.")],
}  # fmt: skip


@pytest.fixture
def server() -> Iterator[NameServer]:
    with name_server(ZONE) as server:
        yield server


@pytest.fixture
def resolver(server: NameServer) -> Resolver:
    return Resolver([server.endpoint], question=0.3)


async def test_records(resolver: Resolver) -> None:
    assert set(await resolver.txt("ourco.example")) == {b"v=spf1 -all", b"x" * 600}
    assert await resolver.mx("ourco.example.") == ("one.example", "two.example")
    assert await resolver.addresses("OURCO.example", 4) == (ip_address("192.0.2.7"),)
    assert await resolver.addresses("ourco.example", 6) == (ip_address("2001:db8::7"),)
    assert await resolver.names(ip_address("192.0.2.7")) == ("mail.ourco.example",)


@pytest.mark.parametrize("name", ["nothing.example", "a..example", "a" * 64 + ".example", "a." * 200, "", "."])
async def test_what_is_not_there_has_no_records(resolver: Resolver, name: str) -> None:
    assert await resolver.txt(name) == ()


async def test_no_records_of_that_type(resolver: Resolver) -> None:
    assert await resolver.mx("huge.example") == ()


@pytest.mark.parametrize("name", ["broken.example", "silent.example"])
async def test_no_answer_is_temporary(resolver: Resolver, name: str) -> None:
    began = monotonic()
    with pytest.raises(DnsTemporary):
        await resolver.txt(name)
    assert monotonic() - began < 5


async def test_no_server_is_temporary() -> None:
    with pytest.raises(DnsTemporary):
        await Resolver([closed_port()], question=0.3).txt("ourco.example")


async def test_large_answers_come_by_tcp_and_are_cut(resolver: Resolver) -> None:
    assert await resolver.txt("huge.example") == (b"x" * 60_000,)
    assert len(await resolver.addresses("many.example", 4)) == MAX_RECORDS


async def test_answers_are_remembered(resolver: Resolver, server: NameServer) -> None:
    for _ in range(3):
        await resolver.txt("ourco.example")
        await resolver.txt("nothing.example")

    assert sorted(set(server.asked)) == sorted(server.asked)
