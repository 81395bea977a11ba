"""Variables set the key that they name, in the type that it wants."""

import os
from pathlib import Path

import pytest

from maillinkd.linker.policy import Policy
from maillinkd.settings import PREFIX, ConfigurationError, Settings, load
from settings.written import ANNA, Write, mailbox, problems, secret, with_client


def test_the_environment_overrides_files(write: Write) -> None:
    settings = load(write(ANNA), {"MAILLINKD__DATABASE__URL": "postgresql://maillinkd@db/maillinkd"})

    assert settings.database.url == "postgresql://maillinkd@db/maillinkd"
    assert settings.source_of("database", "url") == "environment variable MAILLINKD__DATABASE__URL"


@pytest.mark.parametrize(
    ("variable", "text", "key", "expected"),
    [
        ("MAILLINKD__MAILBOXES__ANNA__PASSWORD_FILE", "/run/x", "password_file", Path("/run/x")),
        ("MAILLINKD__MAILBOXES__ANNA__PORT", "1993", "port", 1993),
        ("MAILLINKD__MAILBOXES__ANNA__AUTO_LINK", "false", "auto_link", False),
        ("MAILLINKD__MAILBOXES__ANNA__FOLDERS", '["INBOX", "Work/*"]', "folders", ("INBOX", "Work/*")),
        ("MAILLINKD__MAILBOXES__ANNA__PASSWORD_COMMAND", '["pass", "a b"]', "password_command", ("pass", "a b")),
        ("MAILLINKD__MAILBOXES__ANNA__SINCE", "12w", "since", "12w"),
        ("MAILLINKD__MAILBOXES__ANNA__SINCE", "2026-01-05", "since", "2026-01-05"),
        ("MAILLINKD__MAILBOXES__ANNA__USERNAME", "007", "username", "007"),
        ("maillinkd__mailboxes__anna__username", "lower", "username", "lower"),
    ],
)
def test_a_variable_is_read_as_its_key_wants(
    write: Write, variable: str, text: str, key: str, expected: object
) -> None:
    assert getattr(mailbox(write, "", {variable: text}), key) == expected


def test_a_switch_of_the_policy_is_read_as_true_or_false(write: Write) -> None:
    settings = load(write(""), {"MAILLINKD__POLICY__SINGLE_CONTACT": "true"})

    assert settings.policy.chosen() == Policy(single_contact=True)


@pytest.mark.parametrize(
    ("configured", "variable"),
    [
        ("anna", "ANNA"),
        ("Anna", "ANNA"),
        ("anna.k", "ANNA_K"),
        ("Anna-K", "ANNA_K"),
        ("anna__k", "ANNA__K"),
        ("anna.k", "anna.k"),
    ],
)
def test_names_match_whatever_the_case_and_the_punctuation(write: Write, configured: str, variable: str) -> None:
    path = write(f'[users."{configured}"]\naddress = "a@ourco.example"')

    settings = load(path, {f"MAILLINKD__USERS__{variable}__ADMIN": "true"})

    assert settings.users[configured].admin
    assert len(settings.users) == 1


def test_a_whole_mailbox_can_come_from_the_environment(write: Write) -> None:
    environ = {
        "MAILLINKD__USERS__ANNA__ADDRESS": "anna@ourco.example",
        "MAILLINKD__MAILBOXES__ANNA__HOST": "imap.example.com",
        "MAILLINKD__MAILBOXES__ANNA__USERNAME": "anna",
    }

    assert load(write(""), environ).mailboxes["anna"].owner == "anna"


@pytest.mark.parametrize(
    ("variable", "text", "expected"),
    [
        ("MAILLINKD__DATABASE__URLL", "x", "database.urll: unknown key; did you mean url?"),
        ("MAILLINKD__DATABSE__URL", "x", "databse: unknown key; did you mean database?"),
        ("MAILLINKD__LOG", "x", "expected MAILLINKD__SECTION__KEY"),
        ("MAILLINKD__LOG__FORMAT__X", "x", "expected MAILLINKD__SECTION__KEY"),
        ("MAILLINKD__USERS__ANNA", "x", "expected MAILLINKD__USERS__NAME__KEY"),
        ("MAILLINKD__USERS", "x", "expected MAILLINKD__USERS__NAME__KEY"),
        ("MAILLINKD__MAILBOXES__ANNA__PORT", "many", "mailboxes.anna.port: expected a whole number, found a text"),
        ("MAILLINKD__MAILBOXES__ANNA__PORT", "1\nx=2", "mailboxes.anna.port: expected a whole number, found a text"),
        ("MAILLINKD__MAILBOXES__ANNA__FOLDERS", "INBOX", "mailboxes.anna.folders: expected a list, found a text"),
        ("MAILLINKD__LOG__FORMAT", "yaml", "log.format: expected 'auto', 'console', 'json' or 'journal'"),
    ],
)
def test_a_wrong_variable_is_named(write: Write, variable: str, text: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(write(ANNA), {variable: text})

    assert str(raised.value) == f"environment variable {variable}: {expected}"


def test_a_variable_that_may_mean_two_names_is_refused(write: Write) -> None:
    path = write('[users."a.k"]\naddress = "a@x.example"\n[users.a-k]\naddress = "b@x.example"')

    assert "found a-k and a.k" in problems(path, {"MAILLINKD__USERS__A_K__ADMIN": "true"})[""]


def test_two_variables_for_one_key_are_refused(write: Write) -> None:
    environ = {"MAILLINKD__LOG__FORMAT": "json", "maillinkd__log__format": "console"}

    assert "environment variable MAILLINKD__LOG__FORMAT" in problems(write(""), environ)["log.format"]


def test_the_variable_that_names_the_file_is_no_key(write: Write) -> None:
    assert load(environ={"MAILLINKD_CONFIG": str(write(""))}) == Settings()


def test_a_variable_can_take_another_way_than_the_file(write: Write) -> None:
    environ = {
        "MAILLINKD__MAILBOXES__ANNA__PASSWORD_FILE": "",
        "MAILLINKD__MAILBOXES__ANNA__PASSWORD_ENV": "IMAP_PASSWORD",
    }

    assert mailbox(write, "password_file = '/x'", environ).secret_ways == ("password_env",)


def test_a_variable_names_the_file_of_a_client_s_secret(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "secret", b"s3\n")
    text = "provider = 'microsoft'\ngrant = 'client_credentials'\nclient_id = 'x'"
    settings = load(write(with_client(text)), {"MAILLINKD__OAUTH_CLIENTS__OWN__CLIENT_SECRET_FILE": str(path)})

    assert settings.read_client_secret("own") == "s3"
    settings.require_secrets(["anna"], environ={})


def test_the_environment_of_the_test_sets_nothing() -> None:
    assert [name for name in os.environ if name.startswith(PREFIX)] == []
