"""What the admin or the world did wrong has its exit code and a sentence; a bug keeps its traceback."""

import pytest

from cli.shell import Shell, run
from maillinkd.cli import exit_codes
from maillinkd.imap.errors import LoginRefused, NoPassword, Unreachable
from maillinkd.ingest.hand import NotPermitted, Refused
from maillinkd.mail.delivery import NoSpace, TemporaryFailure
from maillinkd.settings import ConfigurationError, Problem
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


def test_a_database_that_cannot_be_opened_is_told_in_a_sentence(shell: Shell) -> None:
    shell.config.write_text('[database]\nurl = "sqlite:////proc/nowhere/mail.db"\n')

    ran = shell.run("status")

    assert ran.code == 1
    assert ran.complaint.startswith("maillinkd: [Errno ")


def test_a_database_server_that_does_not_answer_is_to_be_tried_later(shell: Shell) -> None:
    shell.config.write_text('[database]\nurl = "postgresql://nobody@127.0.0.1:1/mail"\n')

    assert shell.run("status").code == 75


def test_a_bug_keeps_its_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("maillinkd.cli.given.Given.settings", broken)

    with pytest.raises(ZeroDivisionError):
        shell.run("status")
