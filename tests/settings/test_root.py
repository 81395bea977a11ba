"""The whole: what is filled in, who owns an address, which secrets a start needs."""

from pathlib import Path

import pytest

from maillinkd.settings import ConfigurationError, load
from settings.written import ANNA, Write, mailbox, secret, with_client


def test_a_mailbox_belongs_to_the_user_of_its_name(write: Write) -> None:
    assert mailbox(write, "").owner == "anna"


def test_a_mailbox_may_belong_to_a_team(write: Write) -> None:
    settings = load(write(ANNA + "owner = 'sales'\n[teams.sales]\nmembers = ['anna']"), {})

    assert settings.mailboxes["anna"].owner == "sales"


@pytest.mark.parametrize(
    ("keys", "port"),
    [("", 993), ("tls = 'starttls'", 143), ("tls = 'starttls'\nport = 993", 993)],
)
def test_the_port_follows_tls(write: Write, keys: str, port: int) -> None:
    assert mailbox(write, keys).port == port


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "attached+inline"),
        ("[policy]\npreset = 'pipedrive-strict'", "off"),
        ("[policy]\npreset = 'pipedrive-strict'\n[smart_bcc]\nforwarded = 'attached+inline'", "attached+inline"),
        ("[smart_bcc]\nforwarded = 'off'", "off"),
    ],
)
def test_the_strict_preset_searches_no_forwards(write: Write, text: str, expected: str) -> None:
    assert load(write(text), {}).smart_bcc.forwarded == expected


def test_addresses_are_compared_as_the_linker_compares_them(write: Write) -> None:
    settings = load(write("[users.anna]\naddress = 'Anna@Bücher.example'\naliases = ['k@x.example']"), {})

    assert settings.users["anna"].address == "anna@xn--bcher-kva.example"
    assert settings.owner_of("ANNA@BÜCHER.example") == "anna"
    assert settings.owner_of("K@x.example") == "anna"
    assert settings.owner_of("k+tag@x.example") is None
    assert settings.owner_of("stranger@x.example") is None
    assert settings.owner_of("") is None


def test_plus_tags_are_ignored_when_the_policy_says_so(write: Write) -> None:
    settings = load(write(f"[policy]\nignore_plus_tags = true\n{ANNA}"), {})

    assert settings.owner_of("anna+crm@ourco.example") == "anna"


def test_internal_are_users_mailboxes_and_the_domains_named(write: Write) -> None:
    settings = load(
        write(
            "[policy]\ninternal_domains = ['OurCo.example', 'bücher.example']\n"
            "[smart_bcc]\ndomain = 'BCC.ourco.example'\n"
            "[users.anna]\naddress = 'anna@ourco.example'\naliases = ['k@home.example']\n"
            "[mailboxes.anna]\nhost = 'h'\nusername = 'Info@Other.example'\n"
            "[mailboxes.two]\nowner = 'anna'\nhost = 'h'\nusername = 'no-address'\n"
        ),
        {},
    )

    assert settings.internal_domains() == {"ourco.example", "xn--bcher-kva.example", "bcc.ourco.example"}
    assert settings.internal_addresses() == {"anna@ourco.example", "k@home.example", "info@other.example"}


def test_no_secret_shows_in_repr(write: Write) -> None:
    keys = "password_command = ['vault', '--token', 'canary']"
    environ = {"MAILLINKD__DATABASE__URL": "postgresql://u:canary@h/d"}

    assert "canary" not in repr(load(write(ANNA + keys), environ))


def test_what_the_configuration_names_comes_before_a_credential(write: Write, tmp_path: Path) -> None:
    secret(tmp_path / "anna", b"credential")
    path = secret(tmp_path / "secret", b"file")
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})

    assert settings.read_password("anna", {"CREDENTIALS_DIRECTORY": str(tmp_path)}) == "file"


def test_a_missing_password_names_the_mailbox_and_the_four_ways(write: Write) -> None:
    path = write(ANNA)
    settings = load(path, {})

    with pytest.raises(ConfigurationError) as raised:
        settings.require_secrets(["anna"], environ={})

    assert str(raised.value) == (
        f"{path}: mailboxes.anna: no password for mailbox anna: expected password_file, password_env, "
        'password_command, or a systemd credential named "anna"'
    )


def test_the_secrets_of_mailboxes_that_another_process_serves_are_not_asked_for(write: Write) -> None:
    load(write(ANNA), {}).require_secrets([], environ={})


@pytest.mark.parametrize(
    ("keys", "key", "expected"),
    [
        ("password_file = '/nowhere/secret'", ".password_file", "cannot read /nowhere/secret: No such file"),
        ("password_file = '/'", ".password_file", "cannot read /: Is a directory"),
        ("password_file = '/dev/null'", ".password_file", "expected the password in the first line of /dev/null"),
        ("password_env = 'UNSET'", ".password_env", "environment variable UNSET is not set"),
        ("password_command = ['/nowhere/pass']", ".password_command", "program /nowhere/pass is not found"),
    ],
)
def test_a_secret_that_is_not_there_is_told_at_start(write: Write, keys: str, key: str, expected: str) -> None:
    settings = load(write(ANNA + keys), {})

    with pytest.raises(ConfigurationError) as raised:
        settings.require_secrets(["anna"], environ={})

    (problem,) = raised.value.problems
    assert problem.key == f"mailboxes.anna{key}"
    assert expected in problem.expected


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (
            with_client(
                "provider='microsoft'\ngrant='client_credentials'\nclient_id='x'\nclient_secret_file='/no/s'"
            ),
            "oauth_clients.own.client_secret_file: cannot read /no/s",
        ),
        (
            with_client("provider='google'\nservice_account_file='/no/a'"),
            "oauth_clients.own.service_account_file: cannot read /no/a",
        ),
        (with_client("provider='google'\nclient_id='x'\n[oauth]\nkey_file='/'"), "oauth.key_file: cannot read /"),
        (
            f"{ANNA}auth = 'oauth2'\ntoken_command = ['/no/program', 'canary']",
            "mailboxes.anna.token_command: program /no/program is not found",
        ),
    ],
)
def test_what_a_login_needs_is_looked_for_at_start(write: Write, text: str, where: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(write(text), {}).require_secrets(["anna"], environ={})

    assert where in str(raised.value)
    assert "canary" not in str(raised.value)


def test_that_nobody_has_logged_in_yet_is_no_error_of_the_configuration(write: Write, tmp_path: Path) -> None:
    text = with_client("provider='google'\nclient_id='x'") + f"\n[database]\nurl = 'sqlite:///{tmp_path}/m.db'"

    load(write(text), {}).require_secrets(["anna"], environ={})


def test_the_key_of_tokens_lies_where_it_is_said_or_with_systemd_or_beside_the_database(
    write: Write, tmp_path: Path
) -> None:
    database = f"[database]\nurl = 'sqlite:///{tmp_path}/state/m.db'\n"
    credentials = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    beside = load(write(database), {})

    assert beside.oauth_key_path({}) == tmp_path / "state" / "oauth.key"
    assert beside.read_oauth_key({}) is None
    assert beside.oauth_key_path(credentials) == tmp_path / "state" / "oauth.key"
    secret(tmp_path / "oauth_key", b"key\n")
    assert beside.read_oauth_key(credentials) == b"key\n"
    assert load(write(f"{database}[oauth]\nkey_file = '/k'"), {}).oauth_key_path(credentials) == Path("/k")
    assert load(write("[database]\nurl = 'postgresql://h/d'"), {}).oauth_key_path({}) is None
