"""Several processes on one SQLite file: writers wait for each other, and nothing is lost (architecture.md)."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from system.daemon import ANNA, BEN, CARLA, Site, mail
from system.dovecot import Dovecot, running_dovecot

pytestmark = pytest.mark.dovecot

SYNCED, SENT, IMPORTED, LATER = 150, 60, 400, 20


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as server:
        yield server


def many(name: str, count: int, sender: str = CARLA, to: str = ANNA) -> dict[str, bytes]:
    """Mails by id; every third one answers the one before."""
    found = {}
    for n in range(count):
        refers = f"{name}{n - 1}@x" if n % 3 == 2 else ""
        found[f"{name}{n}@x"] = mail(f"{name}{n}@x", sender=sender, to=to, refers=refers)
    return found


def mbox(path: Path, mails: dict[str, bytes]) -> None:
    """The mails in a file, with LF line ends."""
    path.write_bytes(
        b"".join(
            b"From carla@client.example Sun Nov 22 09:00:00 2026\n" + raw.replace(b"\r\n", b"\n") + b"\n"
            for raw in mails.values()
        )
    )


def test_instances_and_commands_share_a_file(tmp_path: Path, dovecot: Dovecot) -> None:
    """Two mailboxes, the Smart Bcc host and an import write at once; each message is there once, and decided once."""
    site = Site(tmp_path)
    site.sections["users"]["clara"] = {"address": "clara@ourco.example"}
    for name in ("anna", "ben"):
        site.add_mailbox(name, dovecot, username=f"shared-{name}")
    site.add_mailbox("clara", dovecot, username="shared-clara")
    synced = {"anna": many("anna", SYNCED), "ben": many("ben", SYNCED, to=BEN)}
    later = {"anna": many("anna-later", LATER), "ben": many("ben-later", LATER, to=BEN)}
    sent, imported = many("sent", SENT, sender=ANNA, to=CARLA), many("imported", IMPORTED)
    mbox(tmp_path / "clara.mbox", imported)
    for name, mails in synced.items():
        dovecot.deliver(f"shared-{name}", list(mails.values()))

    with ExitStack() as stack:
        anna, ben, door = (stack.enter_context(site.daemon(name)) for name in ("anna", "ben", "smart_bcc"))
        importing = subprocess.Popen(
            [sys.executable, "-m", "maillinkd", "--config", str(site.config), "--json",
             "import", "mail", str(tmp_path / "clara.mbox"), "--mailbox", "clara"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        senders = [threading.Thread(target=door.deliver, args=list(sent.values())[start::3]) for start in range(3)]
        for sender in senders:
            sender.start()
        for name, mails in later.items():
            dovecot.deliver(f"shared-{name}", list(mails.values()))
        for sender in senders:
            sender.join()
        said, log = importing.communicate(timeout=120)
        anna.wait_until(lambda: decided_all(anna, synced["anna"] | later["anna"]), "anna's mail")
        ben.wait_until(lambda: decided_all(ben, synced["ben"] | later["ben"]), "ben's mail")
        door.wait_until(lambda: decided_all(door, sent), "what was sent")
        codes = [daemon.stop()[0] for daemon in (anna, ben, door)]

    assert (codes, importing.returncode) == ([0, 0, 0], 0), log
    assert [each for daemon in (anna, ben, door) for each in daemon.complaints()] == []
    assert "locked" not in log
    assert json.loads(said.splitlines()[-1])["new"] == IMPORTED
    stored = site.query(
        "SELECT owner, channel, count(*), count(DISTINCT message_id) FROM message "
        "JOIN scope ON scope.id = message.scope GROUP BY scope.id ORDER BY owner, channel"
    )
    assert stored == [
        ("anna", "imap", SYNCED + LATER, SYNCED + LATER),
        ("anna", "smart_bcc", SENT, SENT),
        ("ben", "imap", SYNCED + LATER, SYNCED + LATER),
        ("clara", "imap", IMPORTED, IMPORTED),
    ]
    assert site.query("SELECT count(*) FROM quarantine") + site.query("SELECT count(*) FROM inbound") == [(0,), (0,)]
    assert site.query("PRAGMA integrity_check") == [("ok",)]
    site.assert_whole()
    logged = [line["decision"] for line in site.decision_file()]
    assert sorted(logged) == [number for (number,) in site.query("SELECT id FROM decision ORDER BY id")]


def decided_all(daemon: object, mails: dict[str, bytes]) -> bool:
    """Whether each thread's newest mail was named: answers speak for what they answer."""
    return {f"<{id_}>" for id_ in heads(mails)} <= daemon.decided()  # type: ignore[attr-defined]


def heads(mails: dict[str, bytes]) -> list[str]:
    """Mails that are a thread of their own, and those that end one."""
    ids = list(mails)
    answered = {ids[n - 1] for n, id_ in enumerate(ids) if b"\r\nReferences: " in mails[id_]}
    return [id_ for id_ in ids if id_ not in answered]


def test_one_process_at_a_time_checkpoints_and_another_follows_when_it_dies(tmp_path: Path) -> None:
    """SQLite before 3.51.3 can corrupt a WAL that two connections reset."""
    site = Site(tmp_path)
    with site.daemon("smart_bcc") as first, site.daemon("smart_bcc") as second:
        first.deliver(mail("a@x", sender=ANNA, to=CARLA))
        assert checkpointers(site) == {first.pid}

        first.kill()
        second.deliver(mail("b@x", sender=ANNA, to=CARLA))
        second.wait_for_decisions("b@x")

        assert checkpointers(site) == {second.pid}
    assert site.query("SELECT message_id FROM message ORDER BY id") == [("a@x",), ("b@x",)]


def checkpointers(site: Site) -> set[int]:
    """The processes that hold the checkpoint lock (proc(5), locks)."""
    inode = Path(f"{site.directory}/mail.db.checkpoint").stat().st_ino
    locks = (line.split() for line in Path("/proc/locks").read_text().splitlines())
    return {int(lock[4]) for lock in locks if lock[1] == "FLOCK" and lock[5].endswith(f":{inode}")}
