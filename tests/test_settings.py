"""The configuration says what is wrong, where, and what it wants instead; and never shows a secret."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import date
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd import settings as settings_module
from maillinkd.linker.policy import SWITCHES, Policy
from maillinkd.settings import (
    PREFIX,
    ConfigurationError,
    DatabaseSettings,
    Endpoint,
    MailboxSettings,
    OAuthClientSettings,
    PolicySettings,
    Problem,
    SecretUnavailable,
    Settings,
    changes_that_need_a_restart,
    load,
    with_policy,
    without_restart,
)

ANNA = """
[users.anna]
address = "anna@ourco.example"

[mailboxes.anna]
host = "imap.example.com"
username = "anna@ourco.example"
"""

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the main file and, by keyword, files of conf.d; answers with the main file's path."""

    def write(text: str, **conf_d: str) -> Path:
        path = tmp_path / "maillinkd.toml"
        path.write_text(text)
        (tmp_path / "conf.d").mkdir(exist_ok=True)
        for name, content in conf_d.items():
            (tmp_path / "conf.d" / f"{name}.toml").write_text(content)
        return path

    return write


def problems(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What `load` complains of: key path -> what was expected."""
    with pytest.raises(ConfigurationError) as raised:
        load(path, environ or {})
    return {problem.key: problem.expected for problem in raised.value.problems}


def mailbox(write: Write, keys: str, environ: Mapping[str, str] | None = None) -> MailboxSettings:
    return load(write(ANNA + keys), environ or {}).mailboxes["anna"]


# --- Where it is found ----------------------------------------------------------------------------------------------


def test_the_file_given_comes_before_the_environment_s(write: Write, tmp_path: Path) -> None:
    given = write('[log]\nformat = "json"')

    assert load(given, {"MAILLINKD_CONFIG": "/nowhere"}).log.format == "json"


def test_the_environment_names_the_file(write: Write) -> None:
    path = write('[log]\nformat = "json"')

    assert load(environ={"MAILLINKD_CONFIG": str(path)}).log.format == "json"


def test_without_both_it_is_in_etc(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    assert str(settings_module.DEFAULT_FILE) == "/etc/maillinkd/maillinkd.toml"

    monkeypatch.setattr(settings_module, "DEFAULT_FILE", write('[log]\nformat = "json"'))

    assert load(environ={}).log.format == "json"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        (b"[log\n", "expected TOML: Expected ']' at the end of a table declaration (at line 1, column 5)"),
        (b"# \xff", "expected UTF-8, found another byte at offset 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "maillinkd.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    assert str(raised.value).startswith(f"{path}: {expected}")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a readable file: Is a directory"):
        load(tmp_path, {})


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "maillinkd.toml"
    path.write_bytes(b'\xef\xbb\xbf[log]\nformat = "json"')

    assert load(path, {}).log.format == "json"


# --- conf.d ---------------------------------------------------------------------------------------------------------


def test_one_mailbox_a_file(write: Write) -> None:
    path = write(
        '[users.anna]\naddress = "anna@ourco.example"\n[users.ben]\naddress = "ben@ourco.example"',
        anna='[mailboxes.anna]\nhost = "a.example"\nusername = "a"',
        ben='[mailboxes.ben]\nhost = "b.example"\nusername = "b"',
    )

    settings = load(path, {})

    assert {name: mailbox.host for name, mailbox in settings.mailboxes.items()} == {
        "anna": "a.example",
        "ben": "b.example",
    }
    assert settings.source_of("mailboxes", "ben", "host") == str(path.parent / "conf.d" / "ben.toml")


def test_a_key_set_in_two_files_names_both(write: Write) -> None:
    path = write(ANNA, extra='[mailboxes.anna]\nhost = "other.example"')

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    assert str(raised.value) == (
        f"{path.parent / 'conf.d' / 'extra.toml'}: mailboxes.anna.host: "
        f"is set in {path} as well: expected it in one file"
    )


def test_a_list_is_not_merged_with_another(write: Write) -> None:
    path = write('[policy]\ninternal_domains = ["a.example"]', more='[policy]\ninternal_domains = ["b.example"]')

    assert list(problems(path)) == ["policy.internal_domains"]


def test_hidden_and_other_files_of_conf_d_are_left_alone(write: Write) -> None:
    path = write("", **{".hidden": "broken"})
    (path.parent / "conf.d" / "anna.toml~").write_text("broken")

    assert load(path, {}) == Settings()


def test_a_broken_file_of_conf_d_is_named_together_with_others(write: Write) -> None:
    path = write("", one="broken", two="[broken")

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    assert [Path(problem.source).name for problem in raised.value.problems] == ["one.toml", "two.toml"]


# --- The environment ------------------------------------------------------------------------------------------------


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


# --- What is wrong --------------------------------------------------------------------------------------------------


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
        ("[policy]\ninternal_domains = ['a@b']", "policy.internal_domains[0]", 'expected a domain such as "ourco'),
        ("[policy]\nbulk = 'drop'", "policy.bulk", "expected 'store', 'metadata' or 'ignore'"),
        ("[policy]\nblock = ['spam.example']", "policy.block[0]", 'expected an address such as "noise@x.example"'),
        ("[policy]\nblock = ['@']", "policy.block[0]", 'a domain as in "@x.example"'),
        ("log = 3", "log", "expected a table, found a whole number"),
        ("users = ['anna']", "users", "expected a table, found a list"),
        ("[users.anna]", "users.anna.address", "is missing: expected a value"),
        ("[users.anna]\naddress = 'anna'", "users.anna.address", 'expected one address such as "anna@ourco.example"'),
        ("[users.anna]\naddress = 'A <a@b.c>'", "users.anna.address", "expected one address"),
        ("[users.anna]\naddress = 'a@b.c'\naliases = [2026-01-05]", "users.anna.aliases[0]", "found a date"),
        ("[users.'anna k']\naddress = 'a@b.c'", 'users."anna k"', "expected a name of 1 to 64 letters, digits"),
        (f"[users.{'a' * 65}]\naddress = 'a@b.c'", f"users.{'a' * 65}", "expected a name of 1 to 64 letters"),
        ("[users.anna]\naddress='a@b.c'\nauto_link='yes'", "users.anna.auto_link", "expected true or false, found a"),
        ("[teams.t]\nmembers = []", "teams.t.members", "expected at least one"),
        ("[teams.t]\nmembers = ['ana']", "teams.t.members[0]", "no user 'ana'"),
        ("[smart_bcc]\nmax_message_size = 1.5", "smart_bcc.max_message_size", "found a number with a fraction"),
        ("[smart_bcc]\nmax_message_size = 0", "smart_bcc.max_message_size", "expected 1 or more"),
        ("[smart_bcc]\nunknown_sender = 'drop'", "smart_bcc.unknown_sender", "expected 'quarantine' or 'reject'"),
        ("[smart_bcc]\nlisten = ['25']", "smart_bcc.listen[0]", 'expected "host:port" or "[::]:port"'),
        ("[smart_bcc]\nlisten = [25]", "smart_bcc.listen[0]", 'expected a text "host:port"'),
        ("[smart_bcc]\nlisten = ['a:1', 'a:1']", "smart_bcc.listen", "expected each address once"),
        ("[smart_bcc]\nlocal_part = 'our+co'", "smart_bcc.local_part", 'expected the part before "@"'),
        ("[smart_bcc]\ntrusted_relays = ['10.0.0.1/8']", "smart_bcc.trusted_relays[0]", "without host bits"),
        ("[smart_bcc]\nproxy_protocol = true", "smart_bcc.proxy_protocol", "their networks in trusted_relays"),
        ("[dns]\nservers = ['ns.example:53']", "dns.servers[0]", "an IP address and a port"),
        ("[dns]\nservers = ['127.0.0.1']", "dns.servers[0]", '"host:port"'),
        ("[smart_bcc]\ntls_certificate = '/c'", "smart_bcc.tls_key", "both or none"),
        ("[smart_bcc]\ntls_key = '/k'", "smart_bcc.tls_certificate", "both or none"),
        ("[smart_bcc]\nenabled = true\nlocal_part = 'a'", "smart_bcc.domain", "is needed when smart_bcc is enabled"),
        ("[smart_bcc]\nenabled = true\ndomain = 'a.b'", "smart_bcc.local_part", "is needed when smart_bcc is"),
        ("[smart_bcc]\nenabled=true\nlisten=[]\ndomain='a.b'\nlocal_part='a'", "smart_bcc.listen", "is needed when"),
        ("[oauth]\nkey = 'canary'", "oauth.key", "unknown key; expected one of key_file"),
        ("[oauth_clients.c]", "oauth_clients.c.provider", "is missing"),
        ("[oauth_clients.c]\nprovider = 'yahoo'", "oauth_clients.c.provider", "expected 'google', 'microsoft' or"),
        (
            "[oauth_clients.c]\nprovider = 'google'\ngrant = 'device_code'",
            "oauth_clients.c.grant",
            "device_code is not for google: expected one of authorization_code, service_account",
        ),
        (
            "[oauth_clients.c]\nprovider = 'google'\ntoken_endpoint = 'http://a.example/t'",
            "oauth_clients.c.token_endpoint",
            'expected an address such as "https://',
        ),
        ("[oauth_clients.c]\nprovider = 'google'\nscopes = ['a b']", "oauth_clients.c.scopes[0]", "expected a text"),
        ("[oauth_clients.c]\nprovider = 'microsoft'\ntenant = 'a/b'", "oauth_clients.c.tenant", "expected a text"),
        ("[web]\nlisten = '127.0.0.1:8025'", "web.listen", "not in this version"),
        ("[metrics]\nlisten = '127.0.0.1:9100'", "metrics.listen", "not in this version"),
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
        ("tls = 'none'", "tls", '"none" is for loopback alone'),
        ("tls = 'ssl'", "tls", "expected 'implicit', 'starttls' or 'none'"),
        ("auth = 'oauth2'", "auth", "expected oauth_client or token_command, one of them"),
        ("auth = 'oauth2'\noauth_client = 'm365'", "oauth_client", "no OAuth client 'm365' in [oauth_clients]"),
        ("auth = 'oauth2'\ntoken_command = ['']", "token_command", "expected a program"),
        ("auth = 'oauth2'\ntoken_command = ['a']\npassword_env = 'A'", "password_env", "expected no password"),
        ("token_command = ['a']", "token_command", 'expected auth = "oauth2" where token_command is set'),
        ("owner = 'ana'", "owner", "no user or team 'ana'; did you mean anna?"),
        ("folders = []", "folders", "expected at least one"),
        ("folders = ['']", "folders[0]", "expected a folder's name"),
        (r"folders = ['\Snt']", "folders[0]", r"expected one of the special-use flags \All, \Archive"),
        ('folders = ["a\\r\\nb"]', "folders[0]", "expected a folder's name"),
        ("since = '30'", "since", 'expected "30d", "12w", "6m", "1y"'),
        ("since = '2026-02-30'", "since", 'expected "30d"'),
        ("since = 30", "since", "expected a text, found a whole number"),
        ("since = 2026-01-05T00:00:00Z", "since", "expected a text, found a date and time"),
        ("store = 'body'", "store", "expected 'headers' or 'full'"),
        ("password_env = 'A-B'", "password_env", "expected a text without"),
        ("password_command = 'pass show x'", "password_command", "expected a list, found a text"),
        ("password_command = ['']", "password_command", "expected a program"),
        ("poll_interval = 1", "poll_interval", "expected 5 or more"),
        ("bytes_a_day = 1_000_000", "bytes_a_day", "expected 0 (no limit), or 10000000 or more"),
    ],
)
def test_what_is_wrong_with_a_mailbox_is_named(write: Write, keys: str, key: str, expected: str) -> None:
    ((shown, told),) = problems(write(ANNA + keys)).items()

    assert shown == f"mailboxes.anna.{key}"
    assert expected in told


@pytest.mark.parametrize("host", ["imap.example.com:993", "imaps://imap.example.com", "a b", "", "[::1]"])
def test_a_host_is_a_name_or_address_alone(host: str) -> None:
    with pytest.raises(ValueError, match="the port has its own key"):
        MailboxSettings(owner="a", host=host, username="a")


def test_everything_wrong_is_told_at_once_each_with_its_file(write: Write) -> None:
    path = write("[log]\nformat = 'x'", ben="[mailboxes.ben]\nport = 'x'")

    with pytest.raises(ConfigurationError) as raised:
        load(path, {"MAILLINKD__WEB__PORT": "80"})

    ben = str(path.parent / "conf.d" / "ben.toml")
    assert {(problem.source, problem.key) for problem in raised.value.problems} == {
        (str(path), "log.format"),
        (ben, "mailboxes.ben.host"),
        (ben, "mailboxes.ben.username"),
        (ben, "mailboxes.ben.port"),
        ("environment variable MAILLINKD__WEB__PORT", "web.port"),
    }


def test_an_endless_nesting_is_an_error_not_a_crash(write: Write) -> None:
    with pytest.raises(ConfigurationError):
        load(write("x = " + "[" * 5_000 + "]" * 5_000), {})


# --- People ---------------------------------------------------------------------------------------------------------


def test_a_mailbox_belongs_to_the_user_of_its_name(write: Write) -> None:
    assert mailbox(write, "").owner == "anna"


def test_a_mailbox_may_belong_to_a_team(write: Write) -> None:
    settings = load(write(ANNA + "owner = 'sales'\n[teams.sales]\nmembers = ['anna']"), {})

    assert settings.mailboxes["anna"].owner == "sales"


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


def test_one_user_may_repeat_an_address() -> None:
    settings = Settings.model_validate({"users": {"anna": {"address": "a@x.example", "aliases": ["A@X.example"]}}})

    assert settings.users["anna"].addresses == ("a@x.example",)


@pytest.mark.parametrize("name", ["smart_bcc", "web", "metrics"])
def test_no_mailbox_bears_the_name_of_another_door(write: Write, name: str) -> None:
    found = problems(write(f"{ANNA}[mailboxes.{name}]\nowner = 'anna'\nhost = 'a.example'\nusername = 'a'"))

    assert list(found) == [f"mailboxes.{name}"]


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


# --- Policy ---------------------------------------------------------------------------------------------------------


def test_every_switch_of_the_linker_can_be_set() -> None:
    assert set(PolicySettings.model_fields) == {"preset", "internal_domains", "bulk", "block", *SWITCHES}


def test_a_switch_beside_the_preset_holds(write: Write) -> None:
    settings = load(write("[policy]\npreset = 'pipedrive-strict'\nsingle_contact = false"), {})

    assert settings.policy.chosen() == Policy.of("pipedrive-strict", {"single_contact": False})


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


# --- The database's URL ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/x.db", "sqlite+aiosqlite:////var/lib/x.db"),
        ("sqlite:///var/x.db", "sqlite+aiosqlite:///var/x.db"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite:///x.db"),
        ("postgresql://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgresql+asyncpg://u:p%40@h:5433/d", "postgresql+asyncpg://u:p%40@h:5433/d"),
        ("postgresql://u@h/d?sslmode=require", "postgresql+asyncpg://u@h/d?ssl=require"),
        ("postgresql:///d?host=/run/postgresql", "postgresql+asyncpg:///d?host=%2Frun%2Fpostgresql"),
    ],
)
def test_the_driver_is_chosen_by_us(url: str, expected: str) -> None:
    assert DatabaseSettings(url=url).async_url() == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/x.db", Path("/var/lib/x.db")),
        ("sqlite:///var/a b.db", Path("var/a b.db")),
        ("postgresql://u@h/d", None),
    ],
)
def test_the_file_of_an_sqlite_database(url: str, expected: Path | None) -> None:
    assert DatabaseSettings(url=url).sqlite_path() == expected


def test_sqlalchemy_sees_the_same_file_and_server() -> None:
    engine = pytest.importorskip("sqlalchemy").engine

    url = engine.make_url(DatabaseSettings(url="sqlite:///var/a b.db").async_url())
    assert url.database == "var/a b.db"

    url = engine.make_url(DatabaseSettings(url="postgresql:///d?host=/run/postgresql").async_url())
    assert (url.database, dict(url.query)) == ("d", {"host": "/run/postgresql"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite://", "expected a file"),
        ("sqlite:///", "expected a file"),
        ("sqlite:///:memory:", "expected a file"),
        ("sqlite://relative.db", "expected a file"),
        ("sqlite:///x.db?mode=ro", "expected a file"),
        ("sqlite:///a%20b.db", "expected a file"),
        ("postgresql://u:canary@h", "expected the database's name"),
        ("postgres://u:canary@h/d", "the driver is chosen by maillinkd"),
        ("postgresql+psycopg://u:canary@h/d", "the driver is chosen by maillinkd"),
        ("mysql://u:canary@h/d", 'expected "sqlite:'),
        ("postgresql://u:canary@h:port/d", 'expected "sqlite:'),
        ("/var/lib/x.db", 'expected "sqlite:'),
    ],
)
def test_another_url_is_refused_and_not_shown(write: Write, url: str, expected: str) -> None:
    found = problems(write(f'[database]\nurl = "{url}"'))

    assert expected in found["database.url"]
    assert "canary" not in found["database.url"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:canary@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://h/d?password=canary&host=/run", "postgresql://h/d?password=***&host=/run"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("sqlite:////x.db", "sqlite:////x.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, expected: str) -> None:
    database = DatabaseSettings(url=url)

    assert database.shown_url() == expected
    assert "canary" not in repr(database)


# --- Mailboxes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "port"),
    [("", 993), ("tls = 'starttls'", 143), ("tls = 'starttls'\nport = 993", 993)],
)
def test_the_port_follows_tls(write: Write, keys: str, port: int) -> None:
    assert mailbox(write, keys).port == port


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_loopback_needs_no_tls(write: Write, host: str) -> None:
    text = ANNA.replace("imap.example.com", host) + "tls = 'none'"

    assert load(write(text), {}).mailboxes["anna"].tls == "none"


def test_special_use_flags_are_known_whatever_their_case(write: Write) -> None:
    assert mailbox(write, r"folders = ['\sent', 'INBOX', '*']").folders == ("\\Sent", "INBOX", "*")


TODAY = date(2026, 3, 31)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("30d", date(2026, 3, 1)),
        ("12w", date(2026, 1, 6)),
        ("1m", date(2026, 2, 28)),
        ("6m", date(2025, 9, 30)),
        ("1y", date(2025, 3, 31)),
        ("2026-01-05", date(2026, 1, 5)),
        ("all", None),
        ("9999d", date(1998, 11, 14)),
        ("9999w", date(1970, 1, 1)),
        ("9999y", date(1970, 1, 1)),
    ],
)
def test_how_far_back_a_first_sync_goes(since: str, expected: date | None) -> None:
    settings = MailboxSettings(owner="a", host="h", username="u", since=since)

    assert settings.since_date(TODAY) == expected


def test_a_date_of_toml_is_a_date(write: Write) -> None:
    assert mailbox(write, "since = 2026-01-05").since == "2026-01-05"


@given(number=st.integers(1, 9999), unit=st.sampled_from("dwmy"), today=st.dates(date(1970, 1, 1), date(2200, 1, 1)))
def test_no_way_back_leads_into_the_future_or_before_1970(number: int, unit: str, today: date) -> None:
    first = MailboxSettings(owner="a", host="h", username="u", since=f"{number}{unit}").since_date(today)

    assert first is not None
    assert date(1970, 1, 1) <= first <= today


# --- Smart Bcc ------------------------------------------------------------------------------------------------------


def test_smart_bcc_knows_its_address_and_where_it_listens(write: Write) -> None:
    text = (
        "[smart_bcc]\nenabled = true\ndomain = 'BCC.OurCo.example'\nlocal_part = 'OurCo'\n"
        "listen = ['127.0.0.1:2525', '[::1]:0', 'mail.example:25']\ntrusted_relays = ['192.0.2.1', '2001:db8::/32']"
    )

    smart_bcc = load(write(text), {}).smart_bcc

    assert smart_bcc.address == "ourco@bcc.ourco.example"
    assert smart_bcc.listen == (Endpoint("127.0.0.1", 2525), Endpoint("::1", 0), Endpoint("mail.example", 25))
    assert smart_bcc.trusted_relays == (ip_network("192.0.2.1/32"), ip_network("2001:db8::/32"))


@pytest.mark.parametrize("text", ["127.0.0.1:25", "[::]:25", "localhost:0", "[fe80::1%eth0]:25"])
def test_an_endpoint_is_written_as_it_is_read(text: str) -> None:
    assert str(Endpoint.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", ":25", "25", "::1:25", "[::1]", "a:65536", "a b:25", "a:-1", "http://a:25", "a:²"]
)
def test_nothing_else_is_an_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match='expected "host:port"'):
        Endpoint.parse(text)


# --- Secrets --------------------------------------------------------------------------------------------------------


def secret(path: Path, content: bytes = b"correct horse\n") -> Path:
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"correct horse", "correct horse"),
        (b"correct horse\n", "correct horse"),
        (b"correct horse\r\nsecond line\n", "correct horse"),
        (b" spaces stay \n", " spaces stay "),
        ("pässwörd\n".encode(), "pässwörd"),
    ],
)
def test_a_password_is_the_first_line_of_its_file(
    write: Write, tmp_path: Path, content: bytes, expected: str
) -> None:
    path = secret(tmp_path / "secret", content)
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})

    assert settings.read_password("anna", {}) == expected


def test_a_password_is_read_anew_each_time(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "secret", b"old\n")
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})
    secret(path, b"new\n")

    assert settings.read_password("anna", {}) == "new"


def test_a_password_comes_from_a_variable(write: Write) -> None:
    settings = load(write(f"{ANNA}password_env = 'IMAP_PASSWORD'"), {})

    assert settings.read_password("anna", {"IMAP_PASSWORD": "correct horse"}) == "correct horse"


def test_a_password_comes_from_a_command_that_no_shell_reads(write: Write) -> None:
    script = "import sys; print(sys.argv[1]); print('second line')"
    settings = load(write(f"{ANNA}password_command = ['{sys.executable}', '-c', \"{script}\", '$(id) ; x']"), {})

    assert settings.read_password("anna", {}) == "$(id) ; x"


def test_a_password_comes_from_the_systemd_credential_of_the_mailbox_s_name(write: Write, tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    secret(tmp_path / "credentials" / "anna")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    settings = load(write(ANNA), environ)

    assert settings.read_password("anna", environ) == "correct horse"
    settings.require_secrets(["anna"], environ=environ)


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
    ("script", "expected"),
    [
        ("raise SystemExit(3)", "the command failed with exit code 3: no message"),
        ("import sys; print('canary'); sys.exit('gpg: \\x1b[1mno key')", "exit code 1: gpg: ?[1mno key"),
        ("print()", "expected the password in the first line of the command"),
        ("import sys; sys.stdout.buffer.write(b'canary\\xff')", "expected UTF-8 in the first line of the command"),
    ],
)
def test_a_command_that_fails_says_why_and_not_what_it_printed(write: Write, script: str, expected: str) -> None:
    settings = load(write(ANNA), {})
    command = (sys.executable, "-c", script)
    settings.mailboxes["anna"] = settings.mailboxes["anna"].model_copy(update={"password_command": command})

    with pytest.raises(SecretUnavailable) as raised:
        settings.read_password("anna", {})

    assert expected in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_command_that_hangs_is_ended_with_its_children(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings_module, "COMMAND_SECONDS", 1)
    pids = tmp_path / "pids"
    script = tmp_path / "hang"
    # The child keeps the pipe open: killing the shell alone would leave the reader waiting.
    script.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {pids}\nwait\n")
    script.chmod(0o700)
    settings = load(write(f"{ANNA}password_command = ['{script}']"), {})
    began = time.monotonic()

    with pytest.raises(SecretUnavailable, match="did not finish within 1 s"):
        settings.read_password("anna", {})

    assert time.monotonic() - began < 60
    assert _is_gone(int(pids.read_text()))


def _is_gone(pid: int) -> bool:
    """True once the process has ended (or waits for its parent to notice)."""
    for _ in range(1_000):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
        if not state.strip() or state.startswith("Z"):
            return True
    return False


def test_a_password_in_the_file_is_refused_with_a_remedy_and_not_shown(write: Write) -> None:
    with pytest.raises(ConfigurationError) as raised:
        load(write(f"{ANNA}password = 'canary'"), {})

    assert "expected password_file, password_env, password_command or a systemd credential" in str(raised.value)
    assert "canary" not in str(raised.value)


def test_two_ways_to_one_password_are_refused(write: Write) -> None:
    found = problems(write(f"{ANNA}password_file = '/x'\npassword_env = 'X'"))

    assert found == {"mailboxes.anna": "expected one of password_file and password_env, not 2 of them"}


def test_an_empty_way_is_no_way(write: Write) -> None:
    keys = "password_file = ''\npassword_env = ''\npassword_command = ['pass']"

    assert mailbox(write, keys).secret_ways == ("password_command",)


def test_a_variable_can_take_another_way_than_the_file(write: Write) -> None:
    environ = {
        "MAILLINKD__MAILBOXES__ANNA__PASSWORD_FILE": "",
        "MAILLINKD__MAILBOXES__ANNA__PASSWORD_ENV": "IMAP_PASSWORD",
    }

    assert mailbox(write, "password_file = '/x'", environ).secret_ways == ("password_env",)


def test_no_secret_shows_in_repr(write: Write) -> None:
    keys = "password_command = ['vault', '--token', 'canary']"
    environ = {"MAILLINKD__DATABASE__URL": "postgresql://u:canary@h/d"}

    assert "canary" not in repr(load(write(ANNA + keys), environ))


def test_a_secret_that_everyone_can_read_is_warned_of(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "secret")
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})

    assert settings.warnings() == ()

    path.chmod(0o644)

    (warning,) = settings.warnings()
    assert f"mailboxes.anna.password_file: {path} can be read by every user of this machine" in warning


def test_the_key_of_addresses_is_bytes_of_a_file(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "key", b"\x00\xff" * 16 + b"\n")
    settings = load(write(f"[smart_bcc]\naddress_key_file = '{path}'"), {})

    assert settings.read_address_keys() == (b"\x00\xff" * 16,)
    assert load(write(""), {}).read_address_keys() == ()


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"the key from now on\nthe key before this\n", (b"the key from now on", b"the key before this")),
        (b"the key from now on\r\n\r\nthe key before this", (b"the key from now on", b"the key before this")),
        (b"\x00binary bytes of 32\nor more octets", (b"\x00binary bytes of 32\nor more octets",)),
    ],
)
def test_a_file_of_text_holds_a_key_a_line(
    write: Write, tmp_path: Path, content: bytes, keys: tuple[bytes, ...]
) -> None:
    path = secret(tmp_path / "key", content)

    assert load(write(f"[smart_bcc]\naddress_key_file = '{path}'"), {}).read_address_keys() == keys


@pytest.mark.parametrize("content", [b"guess me\n", b"a key that is long enough\nguess me\n", b"\n"])
def test_a_short_key_of_addresses_is_refused(write: Write, tmp_path: Path, content: bytes) -> None:
    path = secret(tmp_path / "key", content)
    settings = load(write(f"[smart_bcc]\naddress_key_file = '{path}'"), {})

    with pytest.raises(ConfigurationError, match="expected keys of 16 bytes or more"):
        settings.require_secrets([], smart_bcc=True)

    settings.require_secrets([], smart_bcc=False)


# --- OAuth 2.0 ------------------------------------------------------------------------------------------------------


def with_client(client: str) -> str:
    """Anna's mailbox, by an OAuth client."""
    return f"{ANNA}auth = 'oauth2'\noauth_client = 'own'\n[oauth_clients.own]\n{client}"


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


@pytest.mark.parametrize(
    ("client", "grant", "personal"),
    [
        ("provider = 'google'\nclient_id = 'x'", "authorization_code", True),
        ("provider = 'google'\nservice_account_file = '/x'", "service_account", False),
        ("provider = 'microsoft'\nclient_id = 'x'", "device_code", True),
        ("provider = 'microsoft'\nclient_id = 'x'\ngrant = 'authorization_code'", "authorization_code", True),
    ],
)
def test_how_tokens_are_come_by_follows_the_provider(write: Write, client: str, grant: str, personal: bool) -> None:
    chosen = load(write(with_client(client)), {}).oauth_client_of("anna")

    assert chosen is not None
    assert (chosen.chosen_grant, chosen.needs_a_person) == (grant, personal)


def test_a_variable_names_the_file_of_a_client_s_secret(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "secret", b"s3\n")
    text = "provider = 'microsoft'\ngrant = 'client_credentials'\nclient_id = 'x'"
    settings = load(write(with_client(text)), {"MAILLINKD__OAUTH_CLIENTS__OWN__CLIENT_SECRET_FILE": str(path)})

    assert settings.read_client_secret("own") == "s3"
    settings.require_secrets(["anna"], environ={})


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


def test_no_mailbox_bears_the_name_of_the_key_s_credential(write: Write) -> None:
    assert "another name" in problems(write(ANNA.replace("anna]", "oauth_key]")))["mailboxes.oauth_key"]


def test_a_key_that_everyone_can_read_is_warned_of(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "key")
    path.chmod(0o644)

    (warning,) = load(write(f"[oauth]\nkey_file = '{path}'"), {}).warnings()

    assert f"{path} can be read by every user of this machine" in warning


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


# --- Reload ---------------------------------------------------------------------------------------------------------

OLD = {"smart_bcc": {"enabled": True, "domain": "b.example", "local_part": "o", "listen": ["127.0.0.1:25"]}}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({}, []),
        ({"log": {"format": "json"}, "users": {"anna": {"address": "a@x.example"}}}, []),
        ({"database": {"url": "sqlite:///other.db"}}, ["database.url"]),
        ({"smart_bcc": OLD["smart_bcc"] | {"listen": ["127.0.0.1:26"]}}, ["smart_bcc.listen"]),
        ({"smart_bcc": OLD["smart_bcc"] | {"enabled": False}}, ["smart_bcc.enabled"]),
        ({"smart_bcc": OLD["smart_bcc"] | {"local_part": "other"}}, []),
    ],
)
def test_the_database_and_the_listeners_need_a_restart(new: dict[str, object], expected: list[str]) -> None:
    old, changed = Settings.model_validate(OLD), Settings.model_validate(OLD | new)

    assert changes_that_need_a_restart(old, changed) == expected
    assert changes_that_need_a_restart(old, without_restart(old, changed)) == []


def test_where_nothing_listens_the_address_may_change() -> None:
    old, new = Settings(), Settings.model_validate({"smart_bcc": {"listen": ["127.0.0.1:1"]}})

    assert changes_that_need_a_restart(old, new) == []


def test_the_rest_is_taken_over() -> None:
    new = OLD | {"database": {"url": "sqlite:///other.db"}, "log": {"format": "json"}}
    old, changed = Settings.model_validate(OLD), Settings.model_validate(new)

    taken = without_restart(old, changed)

    assert (taken.database.url, taken.log.format) == (old.database.url, "json")


# --- The value ------------------------------------------------------------------------------------------------------


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().log.format = "json"


def test_an_error_tells_all_problems_a_line_each() -> None:
    error = ConfigurationError([Problem("f", "a.b", "expected x"), Problem("g", "", "expected y")])

    assert str(error) == "f: a.b: expected x\ng: expected y"


def test_the_environment_of_the_test_sets_nothing() -> None:
    assert [name for name in os.environ if name.startswith(PREFIX)] == []


# --- Rules that are only tried --------------------------------------------------------------------------------------


@pytest.fixture
def configured(write: Write) -> Settings:
    policy = '[policy]\ninternal_domains = ["ourco.example"]\nsingle_contact = true\n'
    return load(write(ANNA + policy), environ={})


def test_the_rules_of_another_file_stand_in_the_place_of_the_configuration_s(
    configured: Settings, tmp_path: Path
) -> None:
    """But for the internal domains."""
    path = tmp_path / "policy.toml"
    path.write_text('[policy]\nunknown_start = "leave"\n[smart_bcc]\nforwarded = "off"\n')

    tried = with_policy(configured, path)

    assert tried.policy.chosen() == Policy(unknown_start="leave")
    assert tried.policy.internal_domains == ("ourco.example",)
    assert (tried.smart_bcc.forwarded, tried.smart_bcc.domain) == ("off", configured.smart_bcc.domain)
    assert tried.mailboxes == configured.mailboxes
    assert configured.policy.chosen() == Policy(single_contact=True)


def test_internal_domains_may_be_tried_too(configured: Settings, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[policy]\ninternal_domains = ["other.example"]\n')

    assert "other.example" in with_policy(configured, path).internal_domains()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[users.eve]\n", "users: expected [policy] and [smart_bcc] alone: nothing else is a rule"),
        ("[smart_bcc]\nenabled = true\n", "smart_bcc.enabled: is no rule: expected unknown_sender or forwarded"),
        ("[policy]\nsingle_contact = 1\n", "policy.single_contact: expected true or false"),
        ("[policy]\nsingle_contat = true\n", "policy.single_contat: unknown key; did you mean single_contact?"),
        ("policy = 3\n", "policy: expected a table"),
        ("[policy\n", ""),
    ],
)
def test_rules_that_are_none_are_refused_with_their_place(
    configured: Settings, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as error:
        with_policy(configured, path)

    assert [str(each).startswith(f"{path}: {problem}") for each in error.value.problems] == [True]
