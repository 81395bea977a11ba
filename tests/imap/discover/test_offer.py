"""What an offer is, and when a person must agree to it."""

import pytest

from maillinkd.imap.discover.offer import Evidence, Offer, host_name, is_inside


def offer(host: str, evidence: Evidence, tls: str = "implicit") -> Offer:
    return Offer(host, 993, tls, ("anna",), "a test", evidence)  # type: ignore[arg-type]


AWAY = {
    "the domain's own host": ("imap.ourco.example", "dns", False),
    "the domain itself": ("ourco.example", "dns", False),
    "another's host by DNS": ("imap.hoster.example", "dns", True),
    "another's host by a document": ("imap.hoster.example", "https", True),
    "another's host by our own list": ("imap.gmail.com", "list", False),
    "a domain that ends alike": ("evil-ourco.example", "dns", True),
    "the domain in front": ("ourco.example.evil.example", "dns", True),
}


@pytest.mark.parametrize(("host", "evidence", "away"), AWAY.values(), ids=AWAY.keys())
def test_what_leads_out_of_the_domain(host: str, evidence: Evidence, away: bool) -> None:
    assert offer(host, evidence).leads_away_from("ourco.example") is away


def test_a_host_is_inside_its_own_domain_alone() -> None:
    assert is_inside("a.b.example", "b.example")
    assert not is_inside("b.example", "a.b.example")


@pytest.mark.parametrize(
    ("text", "name"),
    [("IMAP.Ourco.Example.", "imap.ourco.example"), ("bücher.example", "xn--bcher-kva.example"), (" a.b ", "a.b")],
)
def test_host_names(text: str, name: str) -> None:
    assert name == host_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a b",
        "a/b",
        "user@host",
        "host:993",
        "127.0.0.1",
        "[::1]",
        "a..b",
        "-a.b",
        "a\r\nb",
        "x" * 300,
        "ü" * 90,
    ],
)
def test_what_is_no_host_name(text: str) -> None:
    with pytest.raises(ValueError, match="no host name"):
        host_name(text)


def test_the_place_is_for_people() -> None:
    assert offer("a.example", "dns").place == "a.example:993"
    assert offer("a.example", "dns", "starttls").place == "a.example:993 (STARTTLS)"
