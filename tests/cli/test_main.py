"""What the admin or the world did wrong has its exit code and a sentence; a bug keeps its traceback."""

import sqlite3
from contextlib import closing

import pytest

from cli.shell import Shell, run
from maillinkd.cli import exit_codes
from maillinkd.imap.errors import LoginRefused, NoPassword, Unreachable
from maillinkd.ingest.hand import NotPermitted, Refused
from maillinkd.mail.delivery import NoSpace, TemporaryFailure
from maillinkd.settings import ConfigurationError, Problem
from maillinkd.store.database import NoDatabase
from maillinkd.store.upgrade import SchemaOutdated, SchemaTooNew


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Refused("no"), 1),
        (SchemaOutdated("0001"), 1),
        (SchemaTooNew("9999"), 1),
        (PermissionError(13, "Permission denied", "/db"), 1),
        (Unreachable("no route"), 69),
        (TemporaryFailure("busy"), 75),
        (NoSpace("full"), 75),
        (NotPermitted("not yours"), 77),
        (LoginRefused("LOGIN", "NO", "", "wrong"), 77),
        (NoPassword("none"), 78),
        (NoDatabase("a letter"), 78),
        (ConfigurationError([Problem("file", "key", "wrong")]), 78),
        (RuntimeError("a bug"), None),
    ],
)
def test_every_kind_of_failure_has_its_exit_code(error: Exception, expected: int | None) -> None:
    assert expected == exit_codes.of(error)


def test_a_wrong_configuration_is_told_in_full(shell: Shell) -> None:
    shell.configure('[mailboxes.emma]\nhost = "imap.example.com"\nport = "993"\nusername = "emma"\ncolour = "red"\n')

    ran = shell.run("status")

    assert ran.code == 78
    assert f"maillinkd: {shell.config}: mailboxes.emma.port: expected a whole number" in ran.complaint
    assert f"maillinkd: {shell.config}: mailboxes.emma.colour: unknown key" in ran.complaint


def test_a_configuration_that_is_not_there_is_exit_code_78(shell: Shell) -> None:
    ran = run(["status", "--config", str(shell.directory / "nowhere.toml")])

    assert ran.code == 78
    assert "nowhere.toml: no such file" in ran.complaint


OPENS_THE_DATABASE = (
    ("check",),
    ("status",),
    ("run",),
    ("threads", "list"),
    ("db", "check"),
    ("db", "upgrade"),
    ("sync", "--dry-run"),
)


@pytest.mark.parametrize("command", OPENS_THE_DATABASE)
@pytest.mark.parametrize(
    ("url", "code", "expected"),
    [
        ("sqlite:///{}/letter.txt", 78, "/letter.txt is no SQLite database: expected "),
        ("postgresql://u:geheim@127.0.0.1:1/mail", 75, "127.0.0.1:1 cannot be reached (Connection refused)"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_a_sentence_with_its_place(
    shell: Shell, command: tuple[str, ...], url: str, code: int, expected: str
) -> None:
    shell.write("letter.txt", "Dear Sir or Madam, " * 500)
    shell.config.write_text(f'[database]\nurl = "{url.format(shell.directory)}"\n')

    ran = shell.run(*command)

    (line,) = ran.complaint.splitlines()
    assert ran.code == code
    assert line.startswith(f"maillinkd: {shell.config}: database.url: ")
    assert expected in line
    assert "geheim" not in line


def test_a_folder_in_place_of_the_database_is_a_configuration_error(shell: Shell) -> None:
    shell.config.write_text(f'[database]\nurl = "sqlite:///{shell.directory}"\n')

    ran = shell.run("check")

    assert ran.code == 78
    assert f"{shell.config}: database.url: {shell.directory} cannot be opened (Is a directory)" in ran.complaint


@pytest.mark.parametrize("command", [("status",), ("threads", "list"), ("verify",), ("db", "check"), ("decisions",)])
def test_a_damaged_database_is_told_in_a_sentence(shell: Shell, command: tuple[str, ...]) -> None:
    shell.good("db", "upgrade")
    file = shell.directory / "mail.db"
    with closing(sqlite3.connect(file)) as plain:
        plain.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = file.read_bytes()
    file.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    ran = shell.run(*command)

    (line,) = ran.complaint.splitlines()
    assert ran.code == 1
    assert line.startswith(f"maillinkd: {shell.config}: database.url: {file} is damaged (")


# -- the file of decisions


@pytest.fixture
def without_decisions_file(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Shell:
    monkeypatch.setenv("ANNAS_PASSWORD", "secret")
    shell.config.write_text(
        shell.config.read_text().replace("[log]\n", f'[log]\ndecisions = "{shell.directory}/no/dec.log"\n')
    )
    return shell


@pytest.mark.parametrize(
    "command",
    [
        ("check",),
        ("run",),
        ("link", "1", "deal:61", "--as", "anna"),
        ("decide",),
        ("import", "items", "-"),
        ("quarantine", "release", "1"),
    ],
)
def test_a_decisions_file_that_cannot_be_written_is_a_configuration_error(
    without_decisions_file: Shell, command: tuple[str, ...]
) -> None:
    ran = without_decisions_file.run(*command)

    where = f"{without_decisions_file.config}: log.decisions: expected a file that this user may write"
    assert (ran.code, ran.complaint) == (
        78,
        f"maillinkd: {where}, in a folder that is there: {without_decisions_file.directory}/no/dec.log: "
        "No such file or directory\n",
    )


@pytest.mark.parametrize(
    "command",
    [
        ("threads", "list"),
        ("items", "list"),
        ("quarantine", "list"),
        ("status",),
        ("users", "list"),
        ("decisions",),
        ("decide", "--dry-run"),
        ("propose", "--all"),
        ("verify",),
    ],
)
def test_what_makes_no_decisions_needs_no_file_for_them(
    without_decisions_file: Shell, command: tuple[str, ...]
) -> None:
    assert without_decisions_file.good(*command).complaint == ""


def test_a_bug_keeps_its_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("maillinkd.cli.given.Given.settings", broken)

    with pytest.raises(ZeroDivisionError):
        shell.run("status")
