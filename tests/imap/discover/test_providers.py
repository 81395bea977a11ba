"""The list of well-known providers."""

from collections import Counter

import pytest

from maillinkd.imap.discover.offer import host_name
from maillinkd.imap.discover.providers import PROVIDERS, of_domain, of_mx, offer_of


def test_every_domain_and_every_mx_has_one_provider() -> None:
    for names in ("domains", "mx"):
        counted = Counter(name for provider in PROVIDERS for name in getattr(provider, names).split())

        assert [name for name, number in counted.items() if number > 1] == []


def test_every_host_can_be_dialled_with_tls() -> None:
    for provider in PROVIDERS:
        assert provider.tls in ("implicit", "starttls")
        if provider.host not in ("", "127.0.0.1"):
            assert host_name(provider.host) == provider.host


def test_who_has_no_imap_says_what_else_there_is() -> None:
    assert [provider.name for provider in PROVIDERS if not provider.host and not provider.note] == []


def test_oauth_is_offered_where_tokens_are_to_be_had() -> None:
    assert [each.name for each in PROVIDERS if ("oauth2" in each.auth) != bool(each.oauth)] == []


@pytest.mark.parametrize(
    ("domain", "host"),
    [("gmail.com", "imap.gmail.com"), ("hotmail.com", "outlook.office365.com"), ("gmx.de", "imap.gmx.net"),
     ("me.com", "imap.mail.me.com"), ("proton.me", "127.0.0.1")],
)  # fmt: skip
def test_by_domain(domain: str, host: str) -> None:
    provider = of_domain(domain)

    assert provider is not None
    assert provider.host == host


def test_an_unknown_domain_is_nobody_s() -> None:
    assert of_domain("ourco.example") is None
    assert of_domain("not-gmail.com") is None


MX = {
    "Google Workspace": (["aspmx.l.google.com", "alt1.aspmx.l.google.com"], "imap.gmail.com"),
    "Google Workspace, one record": (["smtp.google.com"], "imap.gmail.com"),
    "Microsoft 365": (["ourco-example.mail.protection.outlook.com"], "outlook.office365.com"),
    "Yahoo": (["mta7.am0.yahoodns.net"], "imap.mail.yahoo.com"),
    "AOL, which lies at Yahoo": (["mx-aol.mail.gm0.yahoodns.net"], "imap.aol.com"),
    "iCloud": (["mx01.mail.icloud.com"], "imap.mail.me.com"),
    "Zoho for a domain of one's own": (["mx.zoho.eu", "mx2.zoho.eu"], "imappro.zoho.eu"),
    "a filter in front, then the provider": (["filter.example", "smtp.google.com"], "imap.gmail.com"),
}


@pytest.mark.parametrize(("hosts", "host"), MX.values(), ids=MX.keys())
def test_by_mx(hosts: list[str], host: str) -> None:
    provider = of_mx(hosts)

    assert provider is not None
    assert provider.host == host


def test_an_unknown_mx_is_nobody_s() -> None:
    assert of_mx(["mail.ourco.example", "notgoogle.com"]) is None
    assert of_mx([]) is None


def test_the_usual_user_name_comes_first() -> None:
    apple, google = of_domain("me.com"), of_domain("gmail.com")
    assert apple
    assert google

    assert offer_of(apple, "anna@me.com", "x").usernames == ("anna", "anna@me.com")
    assert offer_of(google, "anna@gmail.com", "x").usernames == ("anna@gmail.com", "anna")
