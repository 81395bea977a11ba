"""The configuration says what is wrong, where, and what it wants instead; and never shows a secret."""

import pytest

from maillinkd.settings import ConfigurationError, load
from settings.written import ANNA, Write, problems


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[databse]", "databse", "unknown key; did you mean database?"),
        ("[zzz]", "zzz", "unknown key; expected one of database, log, policy"),
        ("[log]\nformt = 'json'", "log.formt", "unknown key; did you mean format?"),
        ("[policy]\nsingle_contacts = true", "policy.single_contacts", "unknown key; did you mean single_contact?"),
        ("[policy]\nsingle_contact = 1", "policy.single_contact", "expected true or false, found a whole number"),
        ("[policy]\npreset = 'strict'", "policy.preset", "expected 'recommended' or 'pipedrive-strict'"),
        ("[policy]\ninternal_domains = 'x'", "policy.internal_domains", "expected a list, found a text"),
        ("[policy]\ninternal_domains = [1]", "policy.internal_domains[0]", "expected a text, found a whole number"),
        ("[policy]\nbulk = 'drop'", "policy.bulk", "expected 'store', 'metadata' or 'ignore'"),
        ("log = 3", "log", "expected a table, found a whole number"),
        ("users = ['anna']", "users", "expected a table, found a list"),
        ("[users.anna]", "users.anna.address", "is missing: expected a value"),
        ("[users.anna]\naddress = 'a@b.c'\naliases = [2026-01-05]", "users.anna.aliases[0]", "found a date"),
        ("[users.'anna k']\naddress = 'a@b.c'", 'users."anna k"', "expected a name of 1 to 64 letters, digits"),
        (f"[users.{'a' * 65}]\naddress = 'a@b.c'", f"users.{'a' * 65}", "expected a name of 1 to 64 letters"),
        ("[users.anna]\naddress='a@b.c'\nauto_link='yes'", "users.anna.auto_link", "expected true or false, found a"),
        ("[smart_bcc]\nmax_message_size = 1.5", "smart_bcc.max_message_size", "found a number with a fraction"),
        ("[smart_bcc]\nmax_message_size = 0", "smart_bcc.max_message_size", "expected 1 or more"),
        ("[smart_bcc]\nunknown_sender = 'drop'", "smart_bcc.unknown_sender", "expected 'quarantine' or 'reject'"),
        ("[oauth]\nkey = 'canary'", "oauth.key", "unknown key; expected one of key_file"),
        ("[oauth_clients.c]", "oauth_clients.c.provider", "is missing"),
        ("[oauth_clients.c]\nprovider = 'yahoo'", "oauth_clients.c.provider", "expected 'google', 'microsoft' or"),
        ("[oauth_clients.c]\nprovider = 'google'\nscopes = ['a b']", "oauth_clients.c.scopes[0]", "expected a text"),
        ("[oauth_clients.c]\nprovider = 'microsoft'\ntenant = 'a/b'", "oauth_clients.c.tenant", "expected a text"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_key(write: Write, text: str, key: str, expected: str) -> None:
    path = write(text)

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    (problem,) = raised.value.problems
    assert (problem.source, problem.key) == (str(path), key)
    assert expected in problem.expected


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ("hots = 'x'", "hots", "unknown key; did you mean host?"),
        ("port = '993'", "port", "expected a whole number, found a text"),
        ("port = 0", "port", "expected 1 or more"),
        ("port = 65536", "port", "expected 65535 or less"),
        ("tls = 'ssl'", "tls", "expected 'implicit', 'starttls' or 'none'"),
        ("since = 30", "since", "expected a text, found a whole number"),
        ("since = 2026-01-05T00:00:00Z", "since", "expected a text, found a date and time"),
        ("store = 'body'", "store", "expected 'headers' or 'full'"),
        ("password_env = 'A-B'", "password_env", "expected a text without"),
        ("password_command = 'pass show x'", "password_command", "expected a list, found a text"),
        ("poll_interval = 1", "poll_interval", "expected 5 or more"),
    ],
)
def test_what_is_wrong_with_a_mailbox_is_named(write: Write, keys: str, key: str, expected: str) -> None:
    ((shown, told),) = problems(write(ANNA + keys)).items()

    assert shown == f"mailboxes.anna.{key}"
    assert expected in told


def test_a_password_in_the_file_is_refused_with_a_remedy_and_not_shown(write: Write) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(write(f"{ANNA}password = 'canary'"), {})

    assert "expected password_file, password_env, password_command or a systemd credential" in str(raised.value)
    assert "canary" not in str(raised.value)
