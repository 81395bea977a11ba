"""`decisions`, `decide`"""

import json
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from cli.shell import ITEMS, Shell, mail
from maillinkd.cli import decisions
from maillinkd.cli.decisions import PATIENCE, Tail
from maillinkd.store.database import Database, open_database

OTHER = {"kind": "deal", "id": "62", "title": "Old roof", "person": "3", "added_at": "2026-01-04T09:00:00Z"}


@pytest.fixture
def journal(office: Shell) -> Shell:
    """Decisions 1 to 4 of threads 1 to 4; 2 and 4 find nobody."""
    for number in (2, 3, 4):
        sender = "x@nobody.example" if number % 2 == 0 else "carla@client.example"
        office.import_mail(mail(f"m{number}@c", sender=sender, subject=str(number)))
    return office


# -- the journal


def test_a_decision_is_printed_as_the_contract_has_it(journal: Shell) -> None:
    line = journal.good("decisions", "--json").lines[0]

    assert list(line) == [
        *("v", "event", "timestamp", "level", "decision", "thread", "owner", "channel", "mailbox", "message_id"),
        *("trigger", "outcome", "reason", "slot", "slot_before", "persons", "organizations", "candidates", "flags"),
        *("actor", "policy", "rule_version"),
    ]
    assert (line["decision"], line["thread"], line["mailbox"], line["outcome"]) == (1, 1, "anna", "linked")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), [1, 2, 3, 4]),
        (("--after", "2"), [3, 4]),
        (("--after", "9223372036854775807"), []),
        (("--reason", "no_known_person"), [2, 4]),
        (("--reason", "no_known_person", "--after", "2"), [4]),
        (("--since", "1h"), [1, 2, 3, 4]),
        (("--since", "2100-01-01"), []),
    ],
)
def test_decisions_are_chosen(journal: Shell, arguments: tuple[str, ...], expected: list[int]) -> None:
    assert expected == [line["decision"] for line in journal.good("decisions", "--json", *arguments).lines]


def test_a_long_journal_is_printed_page_by_page(journal: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decisions, "PAGE", 2)

    assert [line["decision"] for line in journal.good("decisions", "--json").lines] == [1, 2, 3, 4]


def test_a_decision_is_printed_for_people(journal: Shell) -> None:
    lines = journal.good("decisions").output.splitlines()

    assert len(lines) == 4
    assert "linked     thread 1      deal:61       linked_single_open_item" in lines[0]


CHOICES = [
    ("--reason", "because"),
    ("--since", "then"),
    ("--since", ""),
    ("--since", "2026-11-22T15:51:00"),
    ("--since", "999999w"),
    ("--after", "-1"),
    ("--after", "99999999999999999999"),
]


@pytest.mark.parametrize("arguments", CHOICES)
def test_a_wrong_choice_is_a_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    ran = shell.run("decisions", *arguments)

    assert ran.code == 2
    assert f"{arguments[1]!r}" in ran.complaint


@pytest.mark.parametrize("arguments", [("--since", ""), ("--since", "2026-11-22T15:51:00"), ("--item", "")])
def test_a_wrong_choice_of_threads_to_decide_is_a_wrong_usage(shell: Shell, arguments: tuple[str, ...]) -> None:
    ran = shell.run("decide", "--dry-run", *arguments)

    assert ran.code == 2
    assert f"{arguments[1]!r}" in ran.complaint


# -- the tail


@pytest.fixture
async def database(shell: Shell) -> AsyncIterator[Database]:
    database = open_database(f"sqlite+aiosqlite:///{shell.directory}/mail.db")
    yield database
    await database.close()


def commit(directory: Path, *numbers: int) -> None:
    """Commits decisions of these numbers, as transactions do that took them earlier."""
    line = json.dumps({"timestamp": "2026-03-01T10:00:00.000Z"})
    with closing(sqlite3.connect(directory / "mail.db")) as connection, connection:
        connection.execute("INSERT OR IGNORE INTO scope (id, owner, channel, chain) VALUES (1, 'anna', 'imap', x'')")
        connection.executemany(
            "INSERT INTO decision (id, scope, thread, at, line, reason, rule_version, salt, digest, chain, instance)"
            " VALUES (?, 1, 1, 0, ?, 'no_item', 1, x'', x'', x'', 'test')",
            [(number, line) for number in numbers],
        )


async def look(tail: Tail, database: Database, now: float = 0.0) -> list[int]:
    return [line["decision"] for line in await tail.look(database, now)]


async def test_a_decision_that_is_committed_after_a_later_one_is_not_missed(shell: Shell, database: Database) -> None:
    """On PostgreSQL numbers are given out before the transactions end."""
    tail = Tail(0)
    commit(shell.directory, 1, 4)
    assert await look(tail, database) == [1, 4]

    commit(shell.directory, 3)
    assert await look(tail, database) == [3]
    commit(shell.directory, 2, 5)
    assert await look(tail, database) == [2, 5]

    assert await look(tail, database) == []


async def test_a_gap_before_the_first_decision_is_seen(shell: Shell, database: Database) -> None:
    tail = Tail(10)
    commit(shell.directory, 12)
    assert await look(tail, database) == [12]

    commit(shell.directory, 11, 9)

    assert await look(tail, database) == [11]


async def test_a_gap_that_stays_is_forgotten(shell: Shell, database: Database) -> None:
    """A transaction that was rolled back leaves one for ever."""
    tail = Tail(0)
    commit(shell.directory, 1, 3)
    assert await look(tail, database) == [1, 3]

    assert await look(tail, database, PATIENCE) == []
    commit(shell.directory, 2)

    assert await look(tail, database, PATIENCE + 1) == []


async def test_old_gaps_are_not_looked_for(shell: Shell, database: Database) -> None:
    tail = Tail(0)
    commit(shell.directory, 5, 5_000)
    assert await look(tail, database) == [5, 5_000]

    commit(shell.directory, 1, 4_999)

    assert await look(tail, database) == [4_999]


def test_the_tail_goes_on_until_it_is_told_to_stop(journal: Shell) -> None:
    with journal.process("decisions", "--follow", "--json", "--after", "2") as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["decision"] for _ in range(2)] == [3, 4]
        journal.import_mail(mail("m5@c", subject="5"))
        assert json.loads(process.stdout.readline())["message_id"] == "<m5@c>"

        process.send_signal(signal.SIGTERM)

        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_the_tail_may_be_narrowed_and_is_ended_by_ctrl_c(journal: Shell) -> None:
    with journal.process("decisions", "--follow", "--json", "--reason", "no_known_person") as process:
        assert process.stdout is not None
        assert [json.loads(process.stdout.readline())["decision"] for _ in range(2)] == [2, 4]

        process.send_signal(signal.SIGINT)

        assert process.wait(10) == 0


def test_the_tail_ends_when_nobody_reads_it(journal: Shell) -> None:
    """Though nothing more is decided."""
    with journal.process("decisions", "--follow", "--json") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        started = time.monotonic()

        assert process.wait(10) == 0

        assert time.monotonic() - started < 5


# -- decide


def test_a_dry_run_says_what_would_change_and_changes_nothing(office: Shell) -> None:
    office.import_items(OTHER)
    before = office.threads()

    (line,) = office.good("decide", "--dry-run", "--json").lines

    assert (line["thread"], line["slot_before"], line["slot"]) == (1, "deal:61", None)
    assert (line["decision"], line["dry_run"], line["trigger"]) == (None, True, "decide")
    assert "batch" not in line
    assert before == office.threads()
    assert office.good("decide", "--dry-run").output.splitlines()[-1] == "1 of 1 threads would change"


def test_threads_are_decided_again(office: Shell) -> None:
    office.import_items(OTHER)

    ran = office.good("decide")

    assert ran.output.splitlines()[-1] == "1 of 1 threads changed"
    assert office.threads()[0]["reason"] == "ambiguous_several_open_items"
    assert office.good("decide").output == "nothing changes\n0 of 1 threads changed\n"


@pytest.mark.parametrize(
    ("arguments", "expected"), [(("--item", "person:4"), 0), (("--item", "deal:62"), 1), (("--since", "1h"), 0)]
)
def test_threads_to_decide_are_chosen(office: Shell, arguments: tuple[str, ...], expected: int) -> None:
    """The thread's mail is of March 2026."""
    office.import_items(OTHER, {"kind": "person", "id": "4", "title": "Dan"})

    assert expected == len(office.good("decide", "--dry-run", "--json", *arguments).lines)


def test_an_unknown_item_is_refused(shell: Shell) -> None:
    shell.import_items(*ITEMS)

    ran = shell.run("decide", "--item", "deal:99")

    assert (ran.code, ran.complaint) == (1, "maillinkd: there is no deal:99\n")
