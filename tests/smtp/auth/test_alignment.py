"""DMARC's alignment and its tree walk (RFC 9989)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.smtp.auth.alignment import Alignment, may_align, read_record
from maillinkd.smtp.auth.names import DnsTemporary
from smtp.auth.signing import Table

ZONE = {
    "_dmarc.ourco.example": [("TXT", "v=DMARC1; p=reject")],
    "_dmarc.strict.example": [("TXT", "v=DMARC1; p=reject; aspf=s; adkim=r")],
    "_dmarc.half.strict.example": [("TXT", "v=DMARC1; p=reject; adkim=s")],
    "_dmarc.unit.big.example": [("TXT", "v=DMARC1; p=none; psd=n")],
    "_dmarc.big.example": [("TXT", "v=DMARC1; p=none")],
    "_dmarc.public.example": [("TXT", "v=DMARC1; p=none; psd=y")],
    "_dmarc.example": [("TXT", "v=DMARC1; p=reject")],
    "_dmarc.twice.example": [("TXT", "v=DMARC1; p=none"), ("TXT", "v=DMARC1; p=none")],
}


@pytest.mark.parametrize(
    ("author", "domain", "identifier", "expected"),
    [
        ("ourco.example", "ourco.example", "spf", True),
        ("ourco.example", "OURCO.example", "dkim", True),
        ("ourco.example", "bounce.ourco.example", "spf", True),
        ("eu.ourco.example", "ourco.example", "dkim", True),
        ("eu.ourco.example", "bounce.ourco.example", "spf", True),
        ("ourco.example", "evil.example", "spf", False),
        ("ourco.example", "notourco.example", "spf", False),
        ("ourco.example", "ourco.example.evil.example", "dkim", False),
        ("ourco.example", "example", "dkim", False),
        ("ourco.example", "", "dkim", False),
        ("strict.example", "strict.example", "spf", True),
        ("strict.example", "mail.strict.example", "spf", False),
        ("strict.example", "mail.strict.example", "dkim", True),
        ("half.strict.example", "strict.example", "dkim", False),
        ("half.strict.example", "strict.example", "spf", True),
        ("unit.big.example", "big.example", "spf", False),
        ("unit.big.example", "mail.unit.big.example", "spf", True),
        ("one.public.example", "two.public.example", "spf", False),
        ("one.public.example", "mail.one.public.example", "spf", True),
        ("unpublished.example", "mail.unpublished.example", "spf", False),
        ("twice.example", "mail.twice.example", "spf", False),
    ],
)
async def test_alignment(author: str, domain: str, identifier: str, expected: bool) -> None:
    alignment = Alignment(Table(ZONE), author)

    assert await alignment.holds(domain, "spf" if identifier == "spf" else "dkim") is expected


async def test_a_walk_asks_eight_names_at_most_and_each_once() -> None:
    dns = Table({})
    deep = ".".join("abcdefghijklmn") + ".ourco.example"
    alignment = Alignment(dns, deep)

    assert not await alignment.holds(f"x.{deep}", "spf")
    assert not await alignment.holds(f"x.{deep}", "dkim")
    assert dns.asked == [
        f"_dmarc.{deep} TXT",
        "_dmarc.j.k.l.m.n.ourco.example TXT",
        "_dmarc.k.l.m.n.ourco.example TXT",
        "_dmarc.l.m.n.ourco.example TXT",
        "_dmarc.m.n.ourco.example TXT",
        "_dmarc.n.ourco.example TXT",
        "_dmarc.ourco.example TXT",
        "_dmarc.example TXT",
        f"_dmarc.x.{deep} TXT",
    ]


async def test_dns_that_fails_aligns_nothing() -> None:
    with pytest.raises(DnsTemporary):
        await Alignment(Table({"_dmarc.ourco.example": None}), "ourco.example").holds("mail.ourco.example", "spf")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"v=DMARC1; p=none; aspf=s", {"v": "DMARC1", "p": "none", "aspf": "s"}),
        (b" V = DMARC1 ;p=none;;", {"v": "DMARC1", "p": "none"}),
        (b"v=DMARC1; aspf=s; aspf=r", {"v": "DMARC1", "aspf": "s"}),
        (b"v=dmarc1; p=none", None),
        (b"p=none; v=DMARC1", None),
        (b"v=spf1 -all", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_records(text: bytes, expected: dict[str, str] | None) -> None:
    assert read_record(text) == expected


DOMAINS = st.lists(st.sampled_from(["a", "b", "mail", "ourco", "example", "big", "unit", "public"]), min_size=1,
                   max_size=6).map(".".join)  # fmt: skip


@given(DOMAINS, DOMAINS)
async def test_what_is_aligned_could_be_and_is_so_both_ways(first: str, second: str) -> None:
    """With relaxed policies alone. Nothing above, below or beside an organizational domain gets in."""
    zone = {name: records for name, records in ZONE.items() if "strict" not in name}
    holds = await Alignment(Table(zone), first).holds(second, "spf")

    assert holds == await Alignment(Table(zone), second).holds(first, "spf")
    assert may_align(first, second) or not holds
