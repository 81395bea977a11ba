"""SPF (RFC 7208). The public test suite of the RFC (203 cases) was run over the same function."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.smtp.auth.spf import MAX_LOOKUPS, MAX_RECORD, Query, Result, check_host
from smtp.auth.signing import Table

CLIENT = "192.0.2.7"
HELO = "mail.ourco.example"
ZONE = {
    "mail.ourco.example": [("A", CLIENT), ("AAAA", "2001:db8::7")],
    "other.example": [("TXT", "v=spf1 ip4:198.51.100.0/24 -all"), ("MX", "mail.ourco.example")],
    "passes.example": [("TXT", "v=spf1 ip4:192.0.2.0/24 -all")],
    "broken.example": None,
    "twice.example": [("TXT", "v=spf1 -all"), ("TXT", "v=spf1 +all")],
    "7.2.0.192.in-addr.arpa": [("PTR", "mail.ourco.example")],
    "anna.spf.ourco.example": [("A", "127.0.0.2")],
    "7.2.0.192.list.example": [("A", "127.0.0.2")],
    **{f"void{number}.example": [] for number in range(4)},
    "many.example": [("MX", f"mx{number}.example") for number in range(11)],
    "loop.example": [("TXT", "v=spf1 include:loop.example -all")],
    "round.example": [("TXT", "v=spf1 redirect=ourco.example")],
}


async def result(record: str, client: str = CLIENT, sender: str = "anna@ourco.example") -> Result:
    zone = ZONE | {"ourco.example": [("TXT", "something else"), ("TXT", record)]}
    return (await check_host(Table(zone), Query(ip_address(client), sender, HELO)))[0]


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=spf1 -all", Result.FAIL),
        ("V=SPF1 ~all", Result.SOFTFAIL),
        ("v=spf1 ?all", Result.NEUTRAL),
        ("v=spf1", Result.NEUTRAL),
        ("v=spf10 +all", Result.NONE),
        ("v=spf1 ip4:192.0.2.7 -all", Result.PASS),
        ("v=spf1 ip4:192.0.2.0/24 -all", Result.PASS),
        ("v=spf1 ip4:192.0.2.0/33 -all", Result.PERMERROR),
        ("v=spf1 ip4:192.0.2.0/08 -all", Result.PERMERROR),
        ("v=spf1 ip4:192.0.2.8 -all", Result.FAIL),
        ("v=spf1 ip6:2001:db8::/32 -all", Result.FAIL),
        ("v=spf1 a:mail.ourco.example -all", Result.PASS),
        ("v=spf1 a:mail.ourco.example/8//64 -all", Result.PASS),
        ("v=spf1 a -all", Result.FAIL),
        ("v=spf1 mx:other.example -all", Result.PASS),
        ("v=spf1 mx:many.example -all", Result.PERMERROR),
        ("v=spf1 include:passes.example -all", Result.PASS),
        ("v=spf1 include:other.example -all", Result.FAIL),
        ("v=spf1 include:nothing.example -all", Result.PERMERROR),
        ("v=spf1 include:broken.example +all", Result.TEMPERROR),
        ("v=spf1 include:twice.example +all", Result.PERMERROR),
        ("v=spf1 redirect=passes.example", Result.PASS),
        ("v=spf1 redirect=nothing.example", Result.PERMERROR),
        ("v=spf1 redirect=passes.example redirect=passes.example", Result.PERMERROR),
        ("v=spf1 ~all redirect=passes.example", Result.SOFTFAIL),
        ("v=spf1 exists:%{l}.spf.%{d} -all", Result.PASS),
        ("v=spf1 exists:%{ir}.list.example -all", Result.PASS),
        ("v=spf1 exists:%{x}.example -all", Result.PERMERROR),
        ("v=spf1 exists:%{d0}.example -all", Result.PERMERROR),
        ("v=spf1 ptr:ourco.example -all", Result.PASS),
        ("v=spf1 ptr:elsewhere.example -all", Result.FAIL),
        ("v=spf1 +all nonsense", Result.PERMERROR),
        ("v=spf1 all:x +all", Result.PERMERROR),
        ("v=spf1 include +all", Result.PERMERROR),
        ("v=spf1 future=what:ever/12 +all", Result.PASS),
        ("v=spf1 exp=explain.example -all", Result.FAIL),
        ("v=spf1 \x80 +all", Result.PERMERROR),
        ("v=spf1 +all" + " ?all" * MAX_RECORD, Result.PERMERROR),
    ],
)
async def test_records(record: str, expected: Result) -> None:
    assert expected == await result(record)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ("v=spf1 include:loop.example +all", Result.PERMERROR),
        ("v=spf1 redirect=round.example", Result.PERMERROR),
        ("v=spf1 a:void0.example a:void1.example +all", Result.PASS),
        ("v=spf1 a:void0.example a:void1.example a:void2.example +all", Result.PERMERROR),
        ("v=spf1" + " mx:other.example" * MAX_LOOKUPS + " +all", Result.PASS),
    ],
)
async def test_limits_of_4_6_4(record: str, expected: Result) -> None:
    assert expected == await result(record, client="203.0.113.9" if "mx:" in record else CLIENT)


async def test_ten_terms_are_the_most_that_ask() -> None:
    record = "v=spf1" + " a:mail.ourco.example" * 30 + " +all"
    dns = Table({**ZONE, "ourco.example": [("TXT", record)]})

    found, why = await check_host(dns, Query(ip_address("203.0.113.9"), "anna@ourco.example", HELO))

    assert (found, len(dns.asked)) == (Result.PERMERROR, 1 + MAX_LOOKUPS)
    assert why == "more than 10 DNS look-ups"


@pytest.mark.parametrize("domain", ["localhost", "[192.0.2.1]", "a..example", f"{'a' * 64}.example", ""])
async def test_what_is_no_domain_has_no_result(domain: str) -> None:
    dns = Table({})

    assert (await check_host(dns, Query(ip_address(CLIENT), f"anna@{domain}", HELO)))[0] is Result.NONE
    assert dns.asked == []


async def test_an_ipv4_client_on_an_ipv6_socket_is_an_ipv4_client() -> None:
    assert await result("v=spf1 ip4:192.0.2.7 -all", client="::ffff:192.0.2.7") is Result.PASS
    assert await result("v=spf1 ip6:2001:db8::/32 -all", client="2001:db8::7") is Result.PASS


TERMS = st.sampled_from(
    [
        "a",
        "mx",
        "ptr",
        "include:",
        "exists:",
        "redirect=",
        "exp=",
        "ip4:",
        "ip6:",
        "all",
        "-",
        "%{",
        "}",
        "%{ir}",
        "/",
        "//",
        "24",
        "example",
        ".",
        ":",
        "=",
        "loop.example",
        "%{p}",
        "l",
        "r",
        "0",
    ]
)


@given(st.lists(st.lists(TERMS, max_size=5).map("".join), max_size=12).map(" ".join))
async def test_whatever_a_record_says_there_is_a_result_and_few_questions(terms: str) -> None:
    dns = Table({**ZONE, "ourco.example": [("TXT", f"v=spf1 {terms}")]})

    found, _ = await check_host(dns, Query(ip_address(CLIENT), "anna@ourco.example", HELO))

    assert isinstance(found, Result)
    assert len(dns.asked) <= 1 + MAX_LOOKUPS * 22
