"""What sections say must agree."""

import pytest

from maillinkd.settings import load
from settings.written import ANNA, Write, problems, with_client


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[teams.t]\nmembers = []", "teams.t.members", "expected at least one"),
        ("[teams.t]\nmembers = ['ana']", "teams.t.members[0]", "no user 'ana'"),
        ("[smart_bcc]\nlisten = ['a:1', 'a:1']", "smart_bcc.listen", "expected each address once"),
        ("[smart_bcc]\nproxy_protocol = true", "smart_bcc.proxy_protocol", "their networks in trusted_relays"),
        ("[dns]\nservers = ['ns.example:53']", "dns.servers[0]", "an IP address and a port"),
        ("[smart_bcc]\ntls_certificate = '/c'", "smart_bcc.tls_key", "both or none"),
        ("[smart_bcc]\ntls_key = '/k'", "smart_bcc.tls_certificate", "both or none"),
        ("[smart_bcc]\nenabled = true\nlocal_part = 'a'", "smart_bcc.domain", "is needed when smart_bcc is enabled"),
        ("[smart_bcc]\nenabled = true\ndomain = 'a.b'", "smart_bcc.local_part", "is needed when smart_bcc is"),
        ("[smart_bcc]\nenabled=true\nlisten=[]\ndomain='a.b'\nlocal_part='a'", "smart_bcc.listen", "is needed when"),
        (
            "[oauth_clients.c]\nprovider = 'google'\ngrant = 'device_code'",
            "oauth_clients.c.grant",
            "device_code is not for google: expected one of authorization_code, service_account",
        ),
    ],
)
def test_what_does_not_agree_is_told_at_the_key_to_change(write: Write, text: str, key: str, expected: str) -> None:
    ((shown, told),) = problems(write(text)).items()

    assert shown == key
    assert expected in told


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ("tls = 'none'", "tls", '"none" is for loopback alone'),
        ("auth = 'oauth2'", "auth", "expected oauth_client or token_command, one of them"),
        ("auth = 'oauth2'\noauth_client = 'm365'", "oauth_client", "no OAuth client 'm365' in [oauth_clients]"),
        ("auth = 'oauth2'\ntoken_command = ['']", "token_command", "expected a program"),
        ("auth = 'oauth2'\ntoken_command = ['a']\npassword_env = 'A'", "password_env", "expected no password"),
        ("token_command = ['a']", "token_command", 'expected auth = "oauth2" where token_command is set'),
        ("owner = 'ana'", "owner", "no user or team 'ana'; did you mean anna?"),
        ("folders = []", "folders", "expected at least one"),
        ("password_command = ['']", "password_command", "expected a program"),
    ],
)
def test_what_does_not_agree_in_a_mailbox_is_told_at_the_key_to_change(
    write: Write, keys: str, key: str, expected: str
) -> None:
    ((shown, told),) = problems(write(ANNA + keys)).items()

    assert shown == f"mailboxes.anna.{key}"
    assert expected in told


def test_a_mailbox_without_owner_and_without_user_of_its_name_says_so(write: Write) -> None:
    found = problems(write("[mailboxes.info]\nhost = 'a.example'\nusername = 'a'"))

    assert found == {
        "mailboxes.info.owner": "no owner given and no user is called info: expected `owner = ` a user or a team"
    }


def test_a_name_is_a_user_s_or_a_team_s(write: Write) -> None:
    found = problems(write(ANNA + "[teams.anna]\nmembers = ['anna']"))

    assert found == {"teams.anna": "anna is a user as well: expected a name that no user has"}


def test_an_address_belongs_to_one_user(write: Write) -> None:
    found = problems(write(ANNA + "[users.ben]\naddress = 'b@x.example'\naliases = ['ANNA@ourco.EXAMPLE']"))

    assert found == {"users.ben": "anna@ourco.example belongs to user anna already: expected one user for an address"}


@pytest.mark.parametrize("name", ["smart_bcc", "web", "metrics"])
def test_no_mailbox_bears_the_name_of_another_door(write: Write, name: str) -> None:
    found = problems(write(f"{ANNA}[mailboxes.{name}]\nowner = 'anna'\nhost = 'a.example'\nusername = 'a'"))

    assert list(found) == [f"mailboxes.{name}"]


def test_no_mailbox_bears_the_name_of_the_key_s_credential(write: Write) -> None:
    assert "another name" in problems(write(ANNA.replace("anna]", "oauth_key]")))["mailboxes.oauth_key"]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_needs_no_tls(write: Write, host: str) -> None:
    text = ANNA.replace("imap.example.com", host) + "tls = 'none'"

    assert load(write(text), {}).mailboxes["anna"].tls == "none"


def test_two_ways_to_one_password_are_refused(write: Write) -> None:
    found = problems(write(f"{ANNA}password_file = '/x'\npassword_env = 'X'"))

    assert found == {"mailboxes.anna": "expected one of password_file and password_env, not 2 of them"}


@pytest.mark.parametrize(
    ("client", "missing"),
    [
        ("provider = 'google'", {"client_id"}),
        ("provider = 'google'\ngrant = 'service_account'", {"service_account_file"}),
        ("provider = 'microsoft'", {"client_id"}),
        ("provider = 'microsoft'\ngrant = 'client_credentials'", {"client_id", "client_secret_file"}),
        ("provider = 'generic'", {"client_id", "token_endpoint", "authorization_endpoint", "scopes"}),
        ("provider = 'microsoft'\nclient_id = 'x'\nclient_secret_file = '/x'", {"client_secret_file"}),
    ],
)
def test_what_a_client_lacks_is_told_where_a_mailbox_uses_it(write: Write, client: str, missing: set[str]) -> None:
    found = problems(write(with_client(client)))

    assert set(found) == {f"oauth_clients.own.{key}" for key in missing}
    load(write(f"[oauth_clients.own]\n{client}"), {})
