"""`audit`: exit code 3 where mail is missing, and what it says for programs and for people."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from cli.shell import Shell, mail
from maillinkd.cli import auditing
from system.dovecot import Dovecot, running_dovecot

pytestmark = pytest.mark.dovecot

MAILBOX = """
[mailboxes.ben]
host = "127.0.0.1"
port = {port}
tls = "none"
username = "ben"
since = "all"
folders = ["INBOX"]
password_command = ["echo", "secret-pass"]
"""


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as server:
        server.deliver("ben", [mail(f"m{number}@c", to="ben@ourco.example") for number in range(60)])
        yield server


@pytest.fixture
def bens(shell: Shell, dovecot: Dovecot) -> Shell:
    """Ben's mailbox with sixty mails is on the server, and it is the only one."""
    text = shell.config.read_text()
    start, end = text.index("[mailboxes.anna]"), text.index("[smart_bcc]")
    shell.config.write_text(text[:start] + text[end:] + MAILBOX.format(port=dovecot.port))
    return shell


@pytest.fixture
def synced(bens: Shell) -> Shell:
    bens.good("sync")
    return bens


def change(shell: Shell, statement: str) -> None:
    with closing(sqlite3.connect(shell.directory / "mail.db")) as database, database:
        database.execute(statement)


def missing_in_status(shell: Shell) -> int | None:
    (mailbox,) = (each for each in shell.good("status", "--json").lines if each["event"] == "mailbox")
    (folder,) = mailbox["folders"]
    assert folder["missing"] is None or folder["audited_at"].endswith("Z")
    number: int | None = folder["missing"]
    return number


def test_all_that_is_stored_is_accounted_for(synced: Shell) -> None:
    assert missing_in_status(synced) is None
    (line,) = synced.good("audit", "--json").lines

    assert line.pop("uidvalidity") > 0
    assert line == {
        "v": 1, "event": "audit", "mailbox": "ben", "folder": "INBOX", "renumbered_from": None, "on_server": 60,
        "stored": 60, "filtered": {}, "quarantined": 0, "not_yet_read": 0, "missing": 0, "missing_uids": "",
        "expunged": 0, "gone": 0, "repaired": 0,
    }  # fmt: skip
    assert missing_in_status(synced) == 0
    assert "60      60" in synced.good("audit", "--mailbox", "ben").output


def test_a_mailbox_that_nobody_has_read_is_not_missing(bens: Shell) -> None:
    (line,) = bens.good("audit", "--json").lines

    assert (line["not_yet_read"], line["missing"]) == (60, 0)


def test_what_is_missing_is_listed_and_repaired(synced: Shell) -> None:
    """Rows that vanished, and a row whose message vanished; nothing is doubled by the repair."""
    change(synced, "DELETE FROM occurrence WHERE uid IN (3, 4, 30)")
    change(synced, "UPDATE occurrence SET message = NULL WHERE uid = 50")

    ran = synced.run("audit", "--json")
    assert ran.code == 3
    (line,) = ran.lines
    assert (line["stored"], line["missing"], line["missing_uids"]) == (56, 4, "3:4,30,50")
    assert missing_in_status(synced) == 4
    assert "4 missing: maillinkd audit" in synced.good("status").output
    shown = synced.run("audit")
    assert shown.code == 3
    assert "missing in ben, INBOX: UID 3:4,30,50" in shown.output

    (line,) = synced.good("audit", "--repair", "--json").lines
    assert (line["stored"], line["missing"], line["repaired"]) == (60, 0, 4)
    assert missing_in_status(synced) == 0
    assert "4 fetched" not in synced.good("audit").output
    assert len(synced.threads()) == 60


def test_people_are_shown_so_many_ranges_and_programs_all(synced: Shell) -> None:
    change(synced, "DELETE FROM occurrence WHERE uid % 2 = 0")
    ran = synced.run("audit")

    assert ran.code == 3
    assert f"{30 - auditing._SHOWN} ranges more (--json has all)" in ran.output
    (line,) = synced.run("audit", "--json").lines
    assert line["missing_uids"] == ",".join(str(uid) for uid in range(2, 61, 2))


def test_a_mailbox_that_another_process_follows_is_not_repaired_but_audited(synced: Shell) -> None:
    change(synced, "DELETE FROM occurrence WHERE uid = 7")
    change(synced, "INSERT INTO lease VALUES ('ben', 'elsewhere:12:34', 1, 9000000000000000)")
    ran = synced.run("audit", "--repair")

    assert ran.code == 75
    assert "mailbox ben: elsewhere:12:34 follows it" in ran.complaint
    assert synced.run("audit").code == 3


def test_a_repair_gives_the_mailbox_back(synced: Shell) -> None:
    synced.good("audit", "--repair")
    with closing(sqlite3.connect(synced.directory / "mail.db")) as database:
        assert database.execute("SELECT * FROM lease").fetchall() == []


def test_what_is_missing_counts_more_than_a_server_that_is_away(synced: Shell) -> None:
    synced.config.write_text(synced.config.read_text() + '[mailboxes.anna]\nhost = "127.0.0.1"\nport = 1\n'
                             'tls = "none"\nusername = "anna"\npassword_command = ["echo", "x"]\n')  # fmt: skip
    ran = synced.run("audit")
    assert (ran.code, "mailbox anna: 127.0.0.1 cannot be reached" in ran.complaint) == (69, True)
    change(synced, "DELETE FROM occurrence WHERE uid = 7")

    assert synced.run("audit").code == 3


def test_an_unknown_mailbox_is_a_wrong_usage(shell: Shell) -> None:
    ran = shell.run("audit", "--mailbox", "emma")

    assert ran.code == 2
    assert "no mailbox 'emma' in the configuration (there: anna)" in ran.complaint
