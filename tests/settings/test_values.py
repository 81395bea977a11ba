"""What a key may hold, and what is refused with an example."""

import pytest

from maillinkd.settings import Endpoint, MailboxSettings, OAuthClientSettings
from settings.written import ANNA, Write, mailbox, problems


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[policy]\ninternal_domains = ['a@b']", "policy.internal_domains[0]", 'expected a domain such as "ourco'),
        ("[policy]\nblock = ['spam.example']", "policy.block[0]", 'expected an address such as "noise@x.example"'),
        ("[policy]\nblock = ['@']", "policy.block[0]", 'a domain as in "@x.example"'),
        ("[users.anna]\naddress = 'anna'", "users.anna.address", 'expected one address such as "anna@ourco.example"'),
        ("[users.anna]\naddress = 'A <a@b.c>'", "users.anna.address", "expected one address"),
        ("[smart_bcc]\nlisten = ['25']", "smart_bcc.listen[0]", 'expected "host:port" or "[::]:port"'),
        ("[smart_bcc]\nlisten = [25]", "smart_bcc.listen[0]", 'expected a text "host:port"'),
        ("[smart_bcc]\nlocal_part = 'our+co'", "smart_bcc.local_part", 'expected the part before "@"'),
        ("[smart_bcc]\ntrusted_relays = ['10.0.0.1/8']", "smart_bcc.trusted_relays[0]", "without host bits"),
        ("[dns]\nservers = ['127.0.0.1']", "dns.servers[0]", '"host:port"'),
        (
            "[oauth_clients.c]\nprovider = 'google'\ntoken_endpoint = 'http://a.example/t'",
            "oauth_clients.c.token_endpoint",
            'expected an address such as "https://',
        ),
    ],
)
def test_what_no_key_may_hold_is_refused_with_an_example(write: Write, text: str, key: str, expected: str) -> None:
    ((shown, told),) = problems(write(text)).items()

    assert shown == key
    assert expected in told


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ("folders = ['']", "folders[0]", "expected a folder's name"),
        (r"folders = ['\Snt']", "folders[0]", r"expected one of the special-use flags \All, \Archive"),
        ('folders = ["a\\r\\nb"]', "folders[0]", "expected a folder's name"),
        ("since = '30'", "since", 'expected "30d", "12w", "6m", "1y"'),
        ("since = '2026-02-30'", "since", 'expected "30d"'),
    ],
)
def test_what_no_mailbox_may_hold_is_refused_with_an_example(
    write: Write, keys: str, key: str, expected: str
) -> None:
    ((shown, told),) = problems(write(ANNA + keys)).items()

    assert shown == f"mailboxes.anna.{key}"
    assert expected in told


@pytest.mark.parametrize("host", ["imap.example.com:993", "imaps://imap.example.com", "a b", "", "[::1]"])
def test_a_host_is_a_name_or_address_alone(host: str) -> None:
    with pytest.raises(ValueError, match="the port has its own key"):
        MailboxSettings(owner="a", host=host, username="a")


def test_special_use_flags_are_known_whatever_their_case(write: Write) -> None:
    assert mailbox(write, r"folders = ['\sent', 'INBOX', '*']").folders == ("\\Sent", "INBOX", "*")


def test_a_date_of_toml_is_a_date(write: Write) -> None:
    assert mailbox(write, "since = 2026-01-05").since == "2026-01-05"


@pytest.mark.parametrize("text", ["127.0.0.1:25", "[::]:25", "localhost:0", "[fe80::1%eth0]:25"])
def test_an_endpoint_is_written_as_it_is_read(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", ":25", "25", "::1:25", "[::1]", "a:65536", "a b:25", "a:-1", "http://a:25", "a:²"]
)
def test_nothing_else_is_an_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match='expected "host:port"'):
        Endpoint.parse(text)


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example/t",
        "https://",
        "https://u:p@login.example/t",
        "https://login.example/t#x",
        "ftp://a/t",
        "https://[/t",
    ],
)
def test_tokens_are_asked_for_under_tls_alone(url: str) -> None:
    with pytest.raises(ValueError, match="expected an address such as"):
        OAuthClientSettings(provider="generic", token_endpoint=url)
