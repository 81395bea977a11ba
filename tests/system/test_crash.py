"""kill -9 at named points and at random: every 250 is there once, every UID is accounted for, every decision is told
(reliability.md).

`MAILLINKD_KILLS` says how many random kills there are (10; 200 with `-m torture`).
"""

import imaplib
import os
import random
import smtplib
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from system.daemon import ANNA, CARLA, PATIENCE, Daemon, Site, mail
from system.dovecot import Dovecot, running_dovecot

KILLED = 9


@pytest.fixture(scope="module")
def dovecot() -> Iterator[Dovecot]:
    with running_dovecot() as server:
        yield server


def append(server: Dovecot, user: str, raw: bytes) -> None:
    with imaplib.IMAP4("127.0.0.1", server.port) as client:
        client.login(user, server.password)
        client.append("INBOX", "", "", raw)


# -- named points

AFTER = """
import os
from maillinkd.{room} import {file}
original = {file}.{name}
async def last(*arguments, **named):
    await original(*arguments, **named)
    os._exit(9)
{file}.{name} = last
"""
"""The process ends when this call is done."""
AFTER_TAKE = """
import os
from maillinkd.ingest.smart_bcc import SmartBcc
take = SmartBcc.take
async def last(self, received):
    await take(self, received)
    os._exit(9)
SmartBcc.take = last
"""
TELLING = """
import os
from maillinkd.ingest.house import House
def tell(self, lines):
    if lines:
        os._exit(9)
House.tell = tell
"""
TOLD = """
import os
from maillinkd.ingest.house import House
tell = House.tell
def told(self, lines):
    tell(self, lines)
    if lines:
        os._exit(9)
House.tell = told
"""
BY_SMTP = {
    "before the commit that makes it durable": AFTER.format(room="store", file="inbound", name="keep"),
    "between that commit and the 250": AFTER_TAKE,
    "before the commit that files it": AFTER.format(room="store", file="inbound", name="filed"),
    "between that commit and the line": TELLING,
    "between the line and its note": TOLD,
}
BY_IMAP = {
    "before the commit": AFTER.format(room="store", file="cursors", name="record"),
    "between commit and line": TELLING,
    "between the line and its note": TOLD,
}


@pytest.mark.parametrize("point", BY_SMTP)
def test_mail_by_smtp_survives_a_kill(tmp_path: Path, point: str) -> None:
    """A client that got no 250 sends again, as the law has it (RFC 5321, 4.5.4.1)."""
    site = Site(tmp_path)
    raw = mail("a@x", sender=ANNA, to=CARLA)
    accepted = False
    with site.daemon("smart_bcc", code=BY_SMTP[point]) as dying:
        with suppress(smtplib.SMTPServerDisconnected, ConnectionError):
            dying.deliver(raw)
            accepted = True
        assert dying.ended() == KILLED

    with site.daemon("smart_bcc") as daemon:
        if not accepted:
            daemon.deliver(raw)
        daemon.wait_until(lambda: "<a@x>" in dying.decided() | daemon.decided(), "the line")
        if point == "between that commit and the 250":
            daemon.deliver(raw)  # once more
        daemon.deliver(mail("end@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("end@x")
        assert daemon.stop()[0] == 0

    assert site.query("SELECT message_id FROM message ORDER BY id") == [("a@x",), ("end@x",)]
    check(site)


@pytest.mark.parametrize("point", ["between that commit and the 250", "between that commit and the line"])
def test_mail_without_id_and_date_survives_a_kill_and_is_not_doubled(tmp_path: Path, point: str) -> None:
    """Its sender had no 250, or thinks so, and sends it again: at once, and when it is filed."""
    site = Site(tmp_path)
    raw = f"From: {ANNA}\r\nTo: {CARLA}\r\nSubject: New roof\r\n\r\nNeither id nor date.\r\n".encode()
    with site.daemon("smart_bcc", code=BY_SMTP[point]) as dying:
        with suppress(smtplib.SMTPServerDisconnected, ConnectionError):
            dying.deliver(raw)
        assert dying.ended() == KILLED

    with site.daemon("smart_bcc") as daemon:
        daemon.deliver(raw)
        daemon.wait_until(lambda: len(dying.decided() | daemon.decided()) == 1, "its line")
        daemon.deliver(raw, mail("end@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("end@x")
        assert daemon.stop()[0] == 0

    assert site.query("SELECT made_id, count(*) FROM message GROUP BY made_id ORDER BY made_id") == [(0, 1), (1, 1)]
    check(site)


@pytest.mark.dovecot
@pytest.mark.parametrize("point", BY_IMAP)
def test_synced_mail_survives_a_kill(tmp_path: Path, dovecot: Dovecot, point: str) -> None:
    site = Site(tmp_path)
    user = f"kill{list(BY_IMAP).index(point)}"
    site.add_mailbox("anna", dovecot, username=user)
    append(dovecot, user, mail("a@x"))
    dying = site.daemon("anna", code=BY_IMAP[point])
    assert dying.ended() == KILLED

    with site.daemon("anna") as daemon:
        daemon.wait_until(lambda: "<a@x>" in dying.decided() | daemon.decided(), "the line")
        append(dovecot, user, mail("b@x"))
        daemon.wait_for_decisions("b@x")
        assert daemon.stop()[0] == 0

    assert site.query("SELECT uid, message_id FROM occurrence JOIN message ON message.id = message ORDER BY uid") == [
        (1, "a@x"),
        (2, "b@x"),
    ]
    check(site)


def check(site: Site) -> None:
    """What holds after every restart: each decision was told, no message is there twice, nothing waits."""
    told = {line["decision"] for line in site.decision_file()}
    made = {number for (number,) in site.query("SELECT id FROM decision")}
    assert made - told == set()
    assert site.query("SELECT count(*) FROM decision WHERE logged_at IS NULL") == [(0,)]
    assert site.query("SELECT message_id FROM message GROUP BY scope, message_id HAVING count(*) > 1") == []
    assert site.query("SELECT count(*) FROM inbound") == [(0,)]
    assert site.query("SELECT count(*) FROM message WHERE undecided") == [(0,)]
    assert site.query("SELECT id FROM thread WHERE decision IS NULL") == []
    assert site.query("PRAGMA integrity_check") == [("ok",)]
    site.assert_whole()


# -- random kills


class Load:
    """Clients that send mail one after the other, each again until it is answered with 250; and new synced mail."""

    def __init__(self, dovecot: Dovecot, user: str, sessions: int) -> None:
        self.accepted: set[str] = set()
        self.unmarked: set[str] = set()
        """By their subjects, mails that nothing tells from their retries."""
        self.refused: list[str] = []
        self.appended: set[str] = set()
        self._dovecot = dovecot
        self._user = user
        self._daemon: Daemon | None = None
        self._changed = threading.Condition()
        self._over = False
        self._threads = [threading.Thread(target=self._send, args=(n,), daemon=True) for n in range(sessions)]
        self._threads.append(threading.Thread(target=self._append, daemon=True))
        for thread in self._threads:
            thread.start()

    def aim_at(self, daemon: Daemon) -> None:
        with self._changed:
            self._daemon = daemon
            self._changed.notify_all()

    def finish(self) -> None:
        """No new mail; what is on its way is sent until it is answered."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()

    def _living(self) -> Daemon | None:
        """The daemon to send to; None when it died and there will be no other."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._over or (self._daemon is not None and self._daemon.is_running), PATIENCE
            )
            return self._daemon if self._daemon is not None and self._daemon.is_running else None

    def _send(self, session: int) -> None:
        number = 0
        while not self._over:
            number += 1
            id_ = f"sent{session}-{number}@x"
            raw = mail(id_, sender=ANNA if number % 5 else "stranger@elsewhere.example", to=CARLA)
            if not self._is_accepted(raw):
                return
            self.accepted.add(id_)
            if number % 4 == 0:  # neither Message-ID nor Date
                subject = f"unmarked {session}-{number}"
                if not self._is_accepted(
                    f"From: {ANNA}\r\nTo: {CARLA}\r\nSubject: {subject}\r\n\r\nHello\r\n".encode()
                ):
                    return
                self.unmarked.add(subject)

    def _is_accepted(self, raw: bytes) -> bool:
        while (daemon := self._living()) is not None:
            try:
                daemon.deliver(raw)
            except (smtplib.SMTPServerDisconnected, ConnectionError):
                continue
            except smtplib.SMTPException as refusal:
                self.refused.append(str(refusal))
                return False
            return True
        return False

    def _append(self) -> None:
        number = 0
        while not self._over:
            number += 1
            id_ = f"appended{number}@x"
            append(self._dovecot, self._user, mail(id_))
            self.appended.add(id_)


def kill_at_random(tmp_path: Path, dovecot: Dovecot, user: str, kills: int) -> None:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}")
    chance = random.Random(seed)
    site = Site(tmp_path)
    site.add_mailbox("anna", dovecot, username=user)
    load = Load(dovecot, user, sessions=3)
    dead: list[Daemon] = []
    try:
        for _ in range(kills):
            with site.daemon() as daemon:
                load.aim_at(daemon)
                # The moment is chosen by how much was decided, and a little by the clock.
                decided, end = chance.randrange(40), monotonic() + chance.uniform(0.05, 1.5)
                daemon.wait_until(
                    lambda: len(daemon.decisions()) >= decided or monotonic() > end,  # noqa: B023
                    "decisions",
                )
                daemon.kill()
            dead.append(daemon)
        with site.daemon() as daemon:
            load.aim_at(daemon)
            load.finish()
            trusted = {id_ for id_ in load.accepted if int(id_.partition("-")[2].partition("@")[0]) % 5}
            wanted = {f"<{id_}>" for id_ in trusted | load.appended}
            told = {id_ for each in dead for id_ in each.decided()}
            daemon.wait_until(lambda: wanted <= told | daemon.decided(), "the last decisions")
            daemon.deliver(mail("end@x", sender=ANNA, to=CARLA))
            daemon.wait_for_decisions("end@x")
            assert daemon.stop()[0] == 0
    finally:
        load.finish()

    unmarked = site.query("SELECT subject, count(*) FROM message WHERE made_id GROUP BY subject")
    assert dict(unmarked) == dict.fromkeys(load.unmarked, 1)
    assert load.refused == []
    assert len(load.accepted) > kills
    stored = {id_ for (id_,) in site.query("SELECT message_id FROM message")}
    held = [id_ for (id_,) in site.query("SELECT message_id FROM quarantine")]
    assert (load.accepted | load.appended) - stored - set(held) == set()
    assert len(held) == len(set(held))
    uids = [uid for (uid,) in site.query("SELECT uid FROM occurrence JOIN folder ON folder.id = folder ORDER BY uid")]
    assert uids == list(range(1, len(load.appended) + 1))
    check(site)


@pytest.mark.dovecot
def test_random_kills_under_load_lose_and_double_nothing(tmp_path: Path, dovecot: Dovecot) -> None:
    kill_at_random(tmp_path, dovecot, "random", int(os.environ.get("MAILLINKD_KILLS", "10")))


@pytest.mark.dovecot
@pytest.mark.torture
def test_hundreds_of_random_kills(tmp_path: Path, dovecot: Dovecot) -> None:
    kill_at_random(tmp_path, dovecot, "torture", int(os.environ.get("MAILLINKD_KILLS", "200")))
