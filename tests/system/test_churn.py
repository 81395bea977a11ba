"""A mailbox that other programs churn while it is followed: what is there in the end is stored, once."""

import imaplib
import json
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from system.cyrus import Cyrus, running_cyrus
from system.daemon import Site, mail
from system.dovecot import Dovecot, running_dovecot

WORKERS = 3
FOLDERS = ("INBOX", "Clients", "Offers")
Found = set[tuple[str, int, str]]
"""Folder, UID and Message-ID of each message."""


Server = Dovecot | Cyrus


@pytest.fixture(
    params=[
        pytest.param(running_dovecot, id="dovecot", marks=pytest.mark.dovecot),
        pytest.param(running_cyrus, id="cyrus", marks=pytest.mark.cyrus),
    ]
)
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with request.param() as running:
        yield running


class Churner:
    """One more client of the mailbox, who does what comes to his mind until the time is over."""

    _numbers = count()

    def __init__(self, server: Server, user: str, seed: int, end: float) -> None:
        self.put: set[str] = set()
        """The Message-IDs of all that it ever put there."""
        self.done = 0
        self.error: BaseException | None = None
        self._server, self._user, self._end = server, user, end
        self._random = random.Random(seed)
        self._seed = seed
        self._own = [f"Own{seed}"]
        """Folders that only this one makes and renames: so their names are known."""
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with imaplib.IMAP4("127.0.0.1", self._server.port, timeout=30) as client:
                client.login(self._user, self._server.password)
                client.create(self._own[0])
                acts = (self._append, self._append, self._append, self._expunge, self._flag, self._move, self._rename)
                while monotonic() < self._end:
                    self._random.choice(acts)(client)
                    self.done += 1
        except BaseException as error:
            self.error = error

    def _folder(self) -> str:
        return self._random.choice([*FOLDERS, *self._own])

    def _append(self, client: imaplib.IMAP4) -> None:
        for _ in range(self._random.randint(1, 5)):
            id_ = f"{self._seed}.{next(self._numbers)}@churn.example"
            if client.append(self._folder(), "", "", mail(id_))[0] == "OK":
                self.put.add(id_)

    def _some(self, client: imaplib.IMAP4) -> str:
        """A few UIDs of a folder, which is then open; nothing where it is empty."""
        client.select(self._folder())
        uids = client.uid("SEARCH", "ALL")[1][0].split()
        return b",".join(self._random.sample(uids, min(len(uids), 4))).decode()

    def _expunge(self, client: imaplib.IMAP4) -> None:
        if uids := self._some(client):
            client.uid("STORE", uids, "+FLAGS.SILENT", "(\\Deleted)")
            client.expunge()

    def _flag(self, client: imaplib.IMAP4) -> None:
        if self._some(client):
            flags = self._random.choice(("(\\Seen \\Flagged)", "(\\Seen Later)"))
            for word in ("+FLAGS", "-FLAGS", "+FLAGS"):
                client.uid("STORE", "1:*", word, flags)

    def _move(self, client: imaplib.IMAP4) -> None:
        if uids := self._some(client):
            client.uid("MOVE", uids, self._folder())

    def _rename(self, client: imaplib.IMAP4) -> None:
        if client.state == "SELECTED":
            client.unselect()
        old = self._own.pop()
        new = f"Own{self._seed}.{next(self._numbers)}"
        good = client.rename(old, new)[0] == "OK"
        self._own.append(new if good else old)
        if self._random.random() < 0.5:
            client.create(f"Own{self._seed}.{next(self._numbers)}")


def on_server(server: Server, user: str) -> Found:
    found = set()
    with imaplib.IMAP4("127.0.0.1", server.port, timeout=30) as client:
        client.login(user, server.password)
        for line in client.list()[1]:
            folder = line.decode().rpartition(' "/" ')[2].strip('"')
            client.select(f'"{folder}"', readonly=True)
            for part in client.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]:
                if isinstance(part, tuple):
                    uid = int(part[0].partition(b"UID ")[2].split()[0])
                    found.add((folder, uid, part[1].decode().partition(":")[2].strip(" \r\n<>")))
    return found


def in_store(site: Site, folders: set[str]) -> Found:
    rows = site.query(
        "SELECT f.name, o.uid, m.message_id FROM occurrence o JOIN folder f ON f.id = o.folder"
        " LEFT JOIN message m ON m.id = o.message WHERE o.uidvalidity = f.uidvalidity AND o.disposition = 'stored'"
    )
    return {row for row in rows if row[0] in folders}


def audit_beside(site: Site) -> list[dict[str, Any]]:
    """The lines of an audit while the daemon follows, and folders are renamed under its hands."""
    done = subprocess.run(
        [sys.executable, "-m", "maillinkd", "--config", str(site.config), "--json", "audit"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr  # 1: a folder was there, and did not open
    return [json.loads(line) for line in done.stdout.splitlines()]


def churned(site: Site, server: Server, seconds: float, seed: int) -> None:
    user = "anna"
    site.add_mailbox(user, server, folders=["*"], poll_interval=5, expunged="mark", audit_interval=5)
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login(user, server.password)
        for folder in FOLDERS[1:]:
            client.create(folder)
        for number in range(50):
            client.append("INBOX", "", "", mail(f"old{number}@churn.example"))
    with site.daemon() as daemon:
        daemon.wait_for(event="imap connected")
        end = monotonic() + seconds
        churners = [Churner(server, user, seed + number, end) for number in range(WORKERS)]
        looked = []
        while any(each.thread.is_alive() for each in churners):
            looked += audit_beside(site)
        with imaplib.IMAP4("127.0.0.1", server.port) as client:
            client.login(user, server.password)
            for folder in FOLDERS:
                client.append(folder, "", "", mail(f"last-{folder}@churn.example"))
        daemon.wait_for_decisions(*(f"last-{folder}@churn.example" for folder in FOLDERS))
        daemon.wait_for(event="imap audited")
        assert daemon.stop()[0] == 0
    assert [each.error for each in churners if each.error] == []
    assert min(each.done for each in churners) > 10
    assert {line["missing"] for line in looked} == {0}

    # What another program did a moment before the end is read by one more pass.
    site.command("sync")
    there = on_server(server, user)
    folders = {folder for folder, _, _ in there} | set(FOLDERS)

    assert in_store(site, folders) == there
    stored = [row[0] for row in site.query("SELECT message_id FROM message")]
    ever = {f"last-{folder}@churn.example" for folder in FOLDERS}
    ever |= {f"old{number}@churn.example" for number in range(50)}.union(*(each.put for each in churners))
    assert {id_ for _, _, id_ in there} <= set(stored) <= ever
    assert len(stored) == len(set(stored))
    audited = site.command("audit")
    assert {(line["missing"], line["not_yet_read"], line["expunged"]) for line in audited} == {(0, 0, 0)}
    assert sum(line["stored"] for line in audited) == len(there)
    assert {line["repaired"] for line in daemon.lines if line.get("event") == "imap audited"} == {0}


def test_churn(tmp_path: Path, server: Server) -> None:
    churned(Site(tmp_path), server, seconds=4, seed=1)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(100, 103))
def test_churn_for_long(tmp_path: Path, server: Server, seed: int) -> None:
    churned(Site(tmp_path), server, seconds=120, seed=seed)
