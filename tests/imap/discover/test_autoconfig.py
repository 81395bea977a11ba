"""Settings that a domain publishes: what is taken from the document, and what a hostile one may do (nothing)."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imap.discover.internet import autoconfig, server
from maillinkd.imap.discover.autoconfig import LARGEST, Unusable, addresses_of, database_address, offers_in

ADDRESS = "anna@ourco.example"


def found(document: bytes) -> list[tuple[str, int, str, str]]:
    offers = offers_in(document, ADDRESS, "a test")
    return [(offer.host, offer.port, offer.tls, offer.usernames[0]) for offer in offers]


GOOD = {
    "TLS from the start": (server(), [("imap.ourco.example", 993, "implicit", ADDRESS)]),
    "STARTTLS": (server(port="143", socket="STARTTLS"), [("imap.ourco.example", 143, "starttls", ADDRESS)]),
    "the local part": (server(username="%EMAILLOCALPART%"), [("imap.ourco.example", 993, "implicit", "anna")]),
    "the domain in the host": (server("mx.%EMAILDOMAIN%"), [("mx.ourco.example", 993, "implicit", ADDRESS)]),
    "a user name of its own": (server(username="x1-anna"), [("imap.ourco.example", 993, "implicit", "x1-anna")]),
    "no user name": (server(username=""), [("imap.ourco.example", 993, "implicit", ADDRESS)]),
    "two, in their order": (server("a.example") + server("b.example"),
                            [("a.example", 993, "implicit", ADDRESS), ("b.example", 993, "implicit", ADDRESS)]),
    "the one without TLS is left out": (server("a.example", "143", "plain") + server("b.example"),
                                        [("b.example", 993, "implicit", ADDRESS)]),
    "a broken one does not spoil the next": (server(port="x") + server("b.example"),
                                             [("b.example", 993, "implicit", ADDRESS)]),
}  # fmt: skip


@pytest.mark.parametrize(("servers", "expected"), GOOD.values(), ids=GOOD.keys())
def test_what_is_taken(servers: str, expected: list[tuple[str, int, str, str]]) -> None:
    assert expected == found(autoconfig(servers))


@pytest.mark.parametrize(
    ("named", "taken"),
    [("password-cleartext", ("password",)), ("OAuth2 password-cleartext", ("oauth2", "password")),
     ("password-encrypted", ("password",)), ("GSSAPI OAuth2", ("oauth2",)), ("", ("password",))],
)  # fmt: skip
def test_ways_to_sign_in(named: str, taken: tuple[str, ...]) -> None:
    assert taken == offers_in(autoconfig(server(auth=named)), ADDRESS, "a test")[0].auth


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<clientConfig><emailProvider>&b;</emailProvider></clientConfig>"""

BAD = {
    "only without TLS": (autoconfig(server(socket="plain")), "without TLS"),
    "no IMAP": (autoconfig(), "names no IMAP server"),
    "Kerberos alone": (autoconfig(server(auth="GSSAPI")), "no way to sign in"),
    "an IP address, which no certificate proves": (autoconfig(server("10.0.0.1")), "host or a port"),
    "a host that is none": (autoconfig(server("a b/../c")), "host or a port"),
    "a port that is none": (autoconfig(server(port="0")), "host or a port"),
    "no XML": (b"<html><body>404<br></body>", "is not XML"),
    "another document": (b"<html/>", "is not a clientConfig"),
    "nothing": (b"", "is not XML"),
    "entities": (LAUGHS, "document type"),
    "entities in UTF-16": (LAUGHS.decode().replace("?>", ' encoding="UTF-16"?>').encode("utf-16"), "document type"),
    "a file of ours": (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><clientConfig/>', "document type"),
    "an encoding that nobody knows": (b'<?xml version="1.0" encoding="x-none"?><clientConfig/>', "is not XML"),
    "too much": (b" " * (LARGEST + 1), "larger than"),
}  # fmt: skip


@pytest.mark.parametrize(("document", "why"), BAD.values(), ids=BAD.keys())
def test_what_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(Unusable, match=why):
        offers_in(document, ADDRESS, "a test")


def test_depth_is_no_bomb() -> None:
    deep = b"<clientConfig>" + b"<a>" * 9_000 + b"</a>" * 9_000 + b"</clientConfig>"

    with pytest.raises(Unusable):
        offers_in(deep, ADDRESS, "a test")


def test_a_list_without_end_is_cut() -> None:
    assert len(found(autoconfig(server() * 30))) == 10


@given(st.binary(max_size=300))
def test_whatever_comes_is_refused_or_understood(content: bytes) -> None:
    for document in (content, autoconfig(server()).replace(b"SSL", content)):
        with contextlib.suppress(Unusable):
            assert all(offer.host and offer.usernames for offer in offers_in(document, ADDRESS, "a test"))


def test_only_the_domain_itself_learns_the_address() -> None:
    own, well_known = addresses_of("ourco.example", "anna+x@ourco.example")

    assert own == "https://autoconfig.ourco.example/mail/config-v1.1.xml?emailaddress=anna%2Bx%40ourco.example"
    assert well_known == "https://ourco.example/.well-known/autoconfig/mail/config-v1.1.xml"
    assert database_address("ourco.example") == "https://autoconfig.thunderbird.net/v1.1/ourco.example"
