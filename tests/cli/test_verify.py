"""`verify`: the exit code, and what is printed. What it finds is tested in tests/ingest and tests/store."""

import sqlite3
from contextlib import closing

from cli.shell import Shell


def tamper(shell: Shell, statement: str) -> None:
    with closing(sqlite3.connect(shell.directory / "mail.db")) as connection, connection:
        connection.execute(statement)


def test_a_whole_database(office: Shell) -> None:
    (line,) = office.good("verify", "--json").lines

    assert line == {
        "v": 1, "event": "verified", "decisions": 1, "made_again": 1, "erased": 0, "threads": 1, "messages": 1,
        "problems": 0,
    }  # fmt: skip
    assert office.good("verify").output == "1 decisions, 1 threads, 1 messages: all is as it should be\n"


def test_what_is_wrong_is_printed_with_its_place(office: Shell) -> None:
    tamper(office, "UPDATE thread SET message_count = 5")

    ran = office.run("verify", "--json")

    assert ran.code == 1
    assert ran.lines[0] == {
        "v": 1, "event": "problem", "check": "thread", "place": "thread 1",
        "problem": "its message_count is 5, that of its messages 1",
    }  # fmt: skip
    assert ran.lines[1]["problems"] == 1
    assert office.run("verify").output.splitlines() == [
        "thread: thread 1: its message_count is 5, that of its messages 1",
        "1 decisions, 1 threads, 1 messages: 1 problems",
    ]


def test_erased_facts_are_counted(office: Shell) -> None:
    tamper(office, "UPDATE decision SET facts = NULL")

    assert "1 decisions (1 without their facts, which were erased)" in office.good("verify").output


def test_nothing_is_written(office: Shell) -> None:
    before = (office.directory / "mail.db").read_bytes()

    office.good("verify")

    assert (office.directory / "mail.db").read_bytes() == before
