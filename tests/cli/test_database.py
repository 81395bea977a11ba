"""`db upgrade`, `db check`"""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from cli.shell import Shell


def set_revision(shell: Shell, revision: str) -> None:
    with closing(sqlite3.connect(shell.directory / "mail.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


def test_a_database_that_is_not_there_is_not_made_by_a_check(tmp_path: Path) -> None:
    shell = Shell(tmp_path)

    (line,) = shell.good("db", "check", "--json").lines

    assert (line["schema"], line["state"]) == (None, "not there yet: the first start makes it")
    assert not (tmp_path / "mail.db").exists()


def test_an_upgrade_makes_the_schema_once(tmp_path: Path) -> None:
    shell = Shell(tmp_path)

    first, again = (shell.good("db", "upgrade", "--json").lines[0] for _ in range(2))

    assert first["applied"]
    assert first["applied"][-1] == first["schema"]
    assert again["applied"] == []


def test_a_good_database_says_so(shell: Shell) -> None:
    assert shell.good("db", "check", "--json").lines[0]["state"] == "up to date"
    assert "up to date" in shell.good("db", "check").output


@pytest.mark.parametrize("command", [("threads", "list"), ("db", "upgrade"), ("import", "items", "-")])
def test_a_newer_schema_than_the_program_is_refused(shell: Shell, command: tuple[str, ...]) -> None:
    set_revision(shell, "9999")

    ran = shell.run(*command)

    assert ran.code == 1
    assert "the database has schema 9999, which is newer" in ran.complaint


def test_a_check_tells_a_newer_schema(shell: Shell) -> None:
    set_revision(shell, "9999")

    ran = shell.run("db", "check")

    assert ran.code == 1
    assert "newer than this program" in ran.output


def test_the_password_of_a_database_is_not_shown(shell: Shell) -> None:
    shell.config.write_text('[database]\nurl = "postgresql://u:geheim@127.0.0.1:1/mail"\n')

    ran = shell.run("db", "check")

    assert ran.code == 75
    assert "geheim" not in ran.output + ran.complaint
