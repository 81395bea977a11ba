"""What is open while the daemon runs, and what the commands that talk to servers come to."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from maillinkd import app, logs, sdnotify
from maillinkd.app import open_house
from maillinkd.imap.audit import Audit
from maillinkd.imap.budget import Traffic
from maillinkd.imap.errors import LoginRefused, Unreachable
from maillinkd.imap.poller import Summary
from maillinkd.imap.state import MailboxState, State
from maillinkd.ingest import imports
from maillinkd.ingest.house import House
from maillinkd.ingest.smart_bcc import SmartBcc
from maillinkd.ingest.synced import Synced
from maillinkd.mail.delivery import Received, TemporaryFailure
from maillinkd.oauth.token import LoginNeeded
from maillinkd.settings import ConfigurationError, Settings
from maillinkd.store import cursors
from system.imap_peer import FakeConnection, FakeServer, mail

WAIT = 30.0
ANNA = "anna@ourco.example"


def settings_in(directory: Path, **sections: dict[str, Any]) -> Settings:
    """A configuration with Anna and the Smart Bcc address, on a database in this directory."""
    given: dict[str, Any] = {
        "database": {"url": f"sqlite:///{directory}/mail.db"},
        "log": {"format": "json"},
        "users": {"anna": {"address": ANNA}, "ben": {"address": "ben@ourco.example"}},
        "smart_bcc": {
            "enabled": True,
            "domain": "bcc.ourco.example",
            "local_part": "ourco",
            "listen": ["127.0.0.1:0"],
            "require_authentication": False,
        },
    }
    return Settings.model_validate(given | sections)


def mailbox_on(server: FakeServer, **keys: Any) -> dict[str, Any]:
    """A mailbox on a server of this test."""
    return {
        "owner": "anna",
        "host": "127.0.0.1",
        "port": server.port,
        "tls": "none",
        "username": server.user,
        "password_command": ["echo", server.password],
        "folders": ["INBOX"],
        "since": "all",
    } | keys


def ignore(_: object) -> None:
    pass


# -- what an instance is for


@pytest.mark.parametrize(
    ("only", "mailboxes", "smart_bcc"),
    [
        ((), {"anna", "ben"}, True),
        (("anna",), {"anna"}, False),
        (("smart_bcc",), set(), True),
        (("ben", "smart_bcc"), {"ben"}, True),
    ],
)
def test_what_an_instance_serves(tmp_path: Path, only: tuple[str, ...], mailboxes: set[str], smart_bcc: bool) -> None:
    boxes = {name: {"host": "imap.ourco.example", "username": name} for name in ("anna", "ben")}

    served = app._served(settings_in(tmp_path, mailboxes=boxes), only)

    assert (served.mailboxes, served.smart_bcc) == (mailboxes, smart_bcc)


@pytest.mark.parametrize("name", ["nobody", "smart_bcc"])
def test_a_name_that_is_not_configured_is_refused(tmp_path: Path, name: str) -> None:
    settings = settings_in(tmp_path, smart_bcc={"enabled": False})

    with pytest.raises(ConfigurationError, match=f"--only: {name}: expected one of what is configured"):
        app._served(settings, [name])


def test_an_instance_bears_the_same_name_after_a_restart() -> None:
    host = socket.gethostname()

    assert app._instance([]) == f"{host}/all"[:64]
    assert app._instance(["b", "a"]) == app._instance(["a", "b"]) == f"{host}/a,b"[:64]


async def test_without_an_address_nothing_is_ours(tmp_path: Path) -> None:
    office = app.office_of(settings_in(tmp_path, smart_bcc={"enabled": False}))

    assert office.recipient("ourco@bcc.ourco.example") is None


def test_a_key_of_the_addresses_that_is_not_there_is_said(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    bcc = settings.smart_bcc.model_copy(update={"address_key_file": tmp_path / "absent"})

    with pytest.raises(ConfigurationError, match="address_key_file"):
        app.office_of(settings.model_copy(update={"smart_bcc": bcc}))


# -- leases


def test_whose_lease_has_outlived_its_process() -> None:
    host, ours = socket.gethostname(), os.getpid()
    started = app._started(ours)

    assert not app._is_dead(f"{host}:{ours}:{started}")
    assert app._is_dead(f"{host}:{ours}:{int(started) - 1}")  # the number was given to another process
    assert app._is_dead(f"{host}:99999999:{started}")
    assert not app._is_dead(f"elsewhere:{ours}:1")  # who knows


# -- what status shows


@pytest.mark.parametrize(
    ("free", "total", "size", "enough"),
    [
        (1_000_000_000, 4_000_000_000_000, 4_000, True),
        (999_999_999, 4_000_000_000_000, 4_000, False),
        (100_000_000, 1_000_000_000, 4_000, True),
        (99_999_999, 1_000_000_000, 4_000, False),
        (3_000_000_000, 4_000_000_000_000, 2_000_000_000, True),
        (2_999_999_999, 4_000_000_000_000, 2_000_000_000, False),
    ],
)
def test_a_disk_has_room_above_its_reserve_and_one_and_a_half_messages(
    free: int, total: int, size: int, enough: bool
) -> None:
    assert app._is_enough(free, total, 1_000_000_000, size) is enough


def test_what_is_kept_for_status() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    state = MailboxState(
        "anna", State.WAITING, at, next_try=at + timedelta(minutes=1), last_error="gone", filed=7, pending=2
    )
    state = replace(state, traffic=Traffic().plus(5, at))

    assert app._state_facts(state) == {
        "state": "waiting",
        "since": "2026-03-01T12:00:00Z",
        "folder": None,
        "last_success": None,
        "next_try": "2026-03-01T12:01:00Z",
        "last_error": "gone",
        "missing_folders": [],
        "filed": 7,
        "lag": 2,
        "waits_for": None,
        "next_look": None,
        "first_sync": 0,
        "traffic": ((492_324, 5),),
    }
    assert app._status(["anna", "ben"], {"anna": state}) == "following 2 mailboxes; trouble with anna"


def test_another_day_is_no_change_of_a_mailbox(tmp_path: Path) -> None:
    """`since = "30d"` is fixed as a date when the first sync begins."""

    def settings(**keys: Any) -> Settings:
        box = {"host": "imap.ourco.example", "username": "anna", "since": "30d"} | keys
        return settings_in(tmp_path, mailboxes={"anna": box})

    account = app._account(settings(), "anna", date(2026, 3, 1))

    assert not app._changed(account, settings())
    assert app._changed(account, settings(since="all"))
    assert app._changed(account, settings(password_env="OTHER"))
    assert app._changed(account, settings(port=994))


def test_another_oauth_client_is_a_change_of_a_mailbox(tmp_path: Path) -> None:
    def settings(client: dict[str, Any], **keys: Any) -> Settings:
        box = {"host": "imap.ourco.example", "username": "anna", "auth": "oauth2", "oauth_client": "own"}
        own = {"provider": "google", "client_id": "one"} | client
        return settings_in(tmp_path, mailboxes={"anna": box}, oauth_clients={"own": own}, **keys)

    account = app._account(settings({}), "anna", date(2026, 3, 1))

    assert account.tokens is not None
    assert not app._changed(account, settings({}))
    assert app._changed(account, settings({"client_id": "two"}))
    assert app._changed(account, settings({}, oauth={"key_file": tmp_path / "key"}))


async def test_the_daemon_renews_tokens_where_they_are_stored(tmp_path: Path) -> None:
    box = {"host": "imap.ourco.example", "username": "anna", "auth": "oauth2", "oauth_client": "own"}
    own = {"provider": "google", "client_id": "one"}
    settings = settings_in(tmp_path, mailboxes={"anna": box}, oauth_clients={"own": own})

    async with open_house(settings) as house:
        account = app._account(settings, "anna", date(2026, 3, 1), house.database)

        assert account.tokens is not None
        with pytest.raises(LoginNeeded, match="maillinkd auth login anna"):
            await account.tokens.current()


# -- opening the house


async def test_a_house_is_opened_with_a_new_database_for_its_owner_alone(tmp_path: Path) -> None:
    async with open_house(settings_in(tmp_path)) as house:
        assert house.database.path == tmp_path / "mail.db"

    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert set(modes.values()) == {0o600}


async def test_what_a_command_has_told_is_noted_when_it_ends(tmp_path: Path) -> None:
    raw = f"From: c@client.example\r\nTo: {ANNA}\r\nMessage-ID: <a@x>\r\n\r\n".encode()
    box = {"anna": {"host": "imap.ourco.example", "username": "anna"}}
    async with open_house(settings_in(tmp_path, mailboxes=box)) as house:
        await imports.import_mail(house, "anna", [(raw, None)], ignore)

    async with open_house(settings_in(tmp_path, mailboxes=box)) as house:
        assert await house.tell_unlogged(["anna"]) == 0


# -- commands that talk to servers


async def test_a_pass_over_mailboxes_one_of_which_fails(tmp_path: Path) -> None:
    async with FakeServer() as server:
        for number in range(3):
            server.inbox.append(mail(number))
        boxes = {
            "anna": mailbox_on(server),
            "ben": mailbox_on(server, owner="ben", password_command=["echo", "wrong"]),
        }
        settings = settings_in(tmp_path, mailboxes=boxes)

        first = await app.sync(settings, [], ignore)
        second = await app.sync(settings, ["anna"], ignore)

    assert isinstance(first["ben"], LoginRefused)
    assert [(each.filed, each.folders) for each in (first["anna"], second["anna"]) if isinstance(each, Summary)] == [
        (3, ("INBOX",)),
        (0, ("INBOX",)),
    ]
    async with open_house(settings) as house, house.database.reading() as connection:
        reports = await cursors.reports(connection)
    assert {name: report["state"] for name, report in reports.items()} == {"anna": "done", "ben": "failed"}


async def test_the_bytes_of_a_day_are_counted_over_all_passes(tmp_path: Path) -> None:
    async with FakeServer() as server:
        for number in range(3):
            server.inbox.append(mail(number, size=2_000_000))
        box = mailbox_on(server, store="full", bytes_a_day=10_000_000)
        settings = settings_in(tmp_path, mailboxes={"anna": box})
        first = (await app.sync(settings, [], ignore))["anna"]
        for number in range(3, 6):
            server.inbox.append(mail(number, size=2_000_000))
        second = (await app.sync(settings, [], ignore))["anna"]

    assert isinstance(first, Summary)
    assert isinstance(second, TemporaryFailure)
    assert "the provider's limit of bytes a day" in str(second)
    async with open_house(settings) as house:
        assert 8_000_000 < (await app._traffic(house.database, "anna")).total(datetime.now(UTC)) < 10_000_000


async def test_an_audit_beside_a_daemon_that_has_the_only_connection_says_so(tmp_path: Path) -> None:
    full = "Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)"
    async with FakeServer() as server:
        server.on("AUTHENTICATE", f"{{tag}} NO [UNAVAILABLE] {full}")
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})
        alone = (await app.audit(settings, (), repair=False, report=ignore))["anna"]
        async with open_house(settings) as house, house.database.transaction() as connection:
            end = datetime.now(UTC) + timedelta(hours=1)
            await cursors.take_lease(connection, "anna", "elsewhere:1:1", datetime.now(UTC), end)
        beside = (await app.audit(settings, (), repair=False, report=ignore))["anna"]

    assert isinstance(alone, Unreachable)
    assert isinstance(beside, TemporaryFailure)
    assert "no connection beside that of elsewhere:1:1, which audits the mailbox by itself" in str(beside)


async def test_an_audit_repairs_a_mailbox_that_nobody_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps the mailbox for itself, also when it takes longer than a lease lasts, and gives it back."""
    monkeypatch.setattr(app, "LEASE_ON_SQLITE", timedelta(seconds=0.4))
    renewed = asyncio.Event()
    renew = cursors.renew_leases

    async def renew_leases(*arguments: Any) -> set[str]:
        names = await renew(*arguments)
        renewed.set()
        return names

    async def wait(connection: FakeConnection, tag: str, rest: str) -> bool:
        await asyncio.wait_for(renewed.wait(), WAIT)
        return False

    async with FakeServer() as server:
        for number in (1, 2, 3):
            server.inbox.append(mail(number))
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})
        await app.sync(settings, (), ignore)
        async with open_house(settings) as house, house.database.transaction() as connection:
            await connection.execute(text("DELETE FROM occurrence WHERE uid = 2"))
        looked = await app.audit(settings, ("anna",), repair=False, report=ignore)
        monkeypatch.setattr(cursors, "renew_leases", renew_leases)
        server.on("UID FETCH", wait)
        repaired = await app.audit(settings, (), repair=True, report=ignore)

    found = [each["anna"] for each in (looked, repaired)]
    assert [(each.missing, each.repaired) for each in found if isinstance(each, Audit)] == [(1, 0), (0, 1)]
    async with open_house(settings) as house:
        assert await leases(house) == []


async def test_a_mailbox_that_is_followed_is_not_repaired_by_another(tmp_path: Path) -> None:
    async with FakeServer() as server:
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})
        async with open_house(settings) as house, house.database.transaction() as connection:
            end = datetime.now(UTC) + timedelta(hours=1)
            await cursors.take_lease(connection, "anna", "elsewhere:1:1", datetime.now(UTC), end)
        outcome = (await app.audit(settings, (), repair=True, report=ignore))["anna"]

        assert isinstance(outcome, TemporaryFailure)
        assert "elsewhere:1:1 follows it" in str(outcome)
        assert server.logins == []


async def test_a_dry_run_tells_what_would_be_and_leaves_no_trace(tmp_path: Path) -> None:
    async with FakeServer() as server:
        server.inbox.append(mail(1))
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})
        async with open_house(settings):
            pass

        found = await app.dry_run(settings, [], ignore)

    plan = found.plans["anna"]
    assert not isinstance(plan, Exception)
    assert [(each.folder, each.new + each.first) for each in plan.folders] == [("INBOX", 1)]
    assert found.decisions is not None
    assert [line["message_id"] for line in found.decisions] == ["<1@client.example>"]
    assert found.new_threads == {line["thread"] for line in found.decisions}
    async with open_house(settings) as house:
        assert await Synced(house).cursor("anna", "INBOX") is None
    assert {path.name for path in tmp_path.iterdir()} <= {
        "mail.db", "mail.db-wal", "mail.db-shm", "mail.db.writer", "mail.db.checkpoint", "mail.db.open",
    }  # fmt: skip


async def test_a_login_is_checked_by_naming_the_folders(tmp_path: Path) -> None:
    async with FakeServer() as server:
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})

        assert await app.check_login(settings, "anna") == ["INBOX"]


# -- the daemon, in this process


class Running:
    """`app.run` as a task, with what it says of itself to systemd and what it logs."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.statuses: asyncio.Queue[str] = asyncio.Queue()
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.house: House | None = None
        self.smart_bcc: SmartBcc | None = None

    def load(self) -> Settings:
        return self.settings

    async def until(self, holds: Callable[[], Any]) -> None:
        """Waits until something holds that the next turns of the loop bring."""
        async with asyncio.timeout(WAIT):
            while not holds():
                await asyncio.sleep(0.01)

    async def reload(self, settings: Settings) -> None:
        self.settings = settings
        while not self.statuses.empty():
            self.statuses.get_nowait()
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.wait_for(self.statuses.get(), WAIT)


@asynccontextmanager
async def running(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    """A daemon that is ready, and is told to stop at the end."""
    daemon = Running(settings)

    class Watched(House):
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            daemon.house = self
            publish = self.publish
            self.publish = lambda line: (publish(line), daemon.told.put_nowait(line))[0]

    class Noted(SmartBcc):
        def __init__(self, house: House) -> None:
            super().__init__(house)
            daemon.smart_bcc = self

    monkeypatch.setattr(app, "House", Watched)
    monkeypatch.setattr(app, "SmartBcc", Noted)
    monkeypatch.setattr(sdnotify, "ready", lambda status="": daemon.statuses.put_nowait(status))
    task = asyncio.create_task(app.run(daemon.load))
    waiting = asyncio.create_task(daemon.statuses.get())
    await asyncio.wait({task, waiting}, timeout=WAIT, return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        await task
    try:
        yield daemon
    finally:
        if not task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.wait_for(task, WAIT)


def bcc_mail(id_: str) -> Received:
    raw = f"From: {ANNA}\r\nTo: c@client.example\r\nMessage-ID: <{id_}>\r\n\r\nGood morning.\r\n".encode()
    return Received(ANNA, ("ourco@bcc.ourco.example",), raw, datetime.now(UTC))


async def test_lines_that_could_not_be_written_are_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk under the `decisions` file: the mail is filed all the same, and no line is missed."""
    settings = settings_in(tmp_path, log={"format": "json", "decisions": str(tmp_path / "decisions.log")})
    write = logs.DecisionFile.write
    full = True

    def on_a_full_disk(self: logs.DecisionFile, line: str) -> None:
        if full:
            raise OSError(28, "No space left on device")
        write(self, line)

    monkeypatch.setattr(logs.DecisionFile, "write", on_a_full_disk)
    async with running(settings, monkeypatch) as daemon:
        house = daemon.house
        assert house is not None
        assert daemon.smart_bcc is not None
        await daemon.smart_bcc.take(bcc_mail("a@x"))
        await daemon.until(lambda: house.lines_are_due)
        full = False

        line = await asyncio.wait_for(daemon.told.get(), WAIT)

    assert line["message_id"] == "<a@x>"
    assert (tmp_path / "decisions.log").read_text().count("<a@x>") == 1


async def test_an_import_that_cannot_be_finished_keeps_no_daemon_from_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: House) -> None:
        raise ValueError("a bug of ours")

    monkeypatch.setattr(imports, "finish_imports", fails)
    async with running(settings_in(tmp_path), monkeypatch) as daemon:
        assert daemon.smart_bcc is not None
        await daemon.smart_bcc.take(bcc_mail("a@x"))
        assert (await asyncio.wait_for(daemon.told.get(), WAIT))["message_id"] == "<a@x>"


async def leases(house: House) -> list[tuple[str, str]]:
    async with house.database.reading() as connection:
        rows = await connection.execute(text("SELECT name, holder FROM lease ORDER BY name"))
        return [(row.name, row.holder) for row in rows]


async def test_a_mailbox_that_is_followed_in_another_way_stays_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task that ends gives its lease back before the next one takes it."""
    async with FakeServer() as server:
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})
        async with running(settings, monkeypatch) as daemon:
            house = daemon.house
            assert house is not None
            await daemon.until(lambda: "IDLE" in server.commands)
            seen = len(server.commands)

            await daemon.reload(settings_in(tmp_path, mailboxes={"anna": mailbox_on(server, poll_interval=77)}))
            await daemon.until(lambda: "IDLE" in server.commands[seen:])

            holder = f"{socket.gethostname()}:{os.getpid()}:{app._started(os.getpid())}"
            assert await leases(house) == [("anna", holder)]
            server.inbox.append(mail(5))
            await daemon.reload(settings_in(tmp_path))
            await daemon.until(
                lambda: server.connections and all(each.writer.is_closing() for each in server.connections)
            )
        assert len(server.logins) == 2


async def test_the_bytes_of_a_day_outlive_the_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used = Traffic().plus(9_500_000, datetime.now(UTC))
    async with FakeServer() as server:
        server.inbox.append(mail(1))
        box = mailbox_on(server, bytes_a_day=10_000_000)
        settings = settings_in(tmp_path, mailboxes={"anna": box})
        async with open_house(settings) as house, house.database.transaction() as connection:
            await cursors.report(connection, "anna", {"traffic": used.hours}, datetime.now(UTC))
        async with running(settings, monkeypatch) as daemon:
            await daemon.until(lambda: "IDLE" in server.commands)

    assert not [line for line in server.commands if "BODY.PEEK" in line]
    async with open_house(settings) as house, house.database.reading() as connection:
        state = await cursors.report_of(connection, "anna")
    assert (state["state"], state["waits_for"]) == ("waiting", "the provider's limit of bytes a day")
    assert Traffic.of_facts(state["traffic"]).total(datetime.now(UTC)) > 9_500_000


async def test_a_mailbox_that_went_to_another_process_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """We slept for longer than the lease lasts."""
    monkeypatch.setattr(app, "LEASE_ON_SQLITE", timedelta(seconds=0.4))
    async with FakeServer() as server:
        settings = settings_in(tmp_path, mailboxes={"anna": mailbox_on(server)})
        async with running(settings, monkeypatch) as daemon:
            house = daemon.house
            assert house is not None
            await daemon.until(lambda: "IDLE" in server.commands)
            end = datetime.now(UTC) + timedelta(hours=1)
            async with house.database.transaction() as connection:
                await connection.execute(text("DELETE FROM lease"))
                await cursors.take_lease(connection, "anna", "elsewhere:1:1", datetime.now(UTC), end)

            await daemon.until(lambda: all(each.writer.is_closing() for each in server.connections))

            assert await leases(house) == [("anna", "elsewhere:1:1")]
            async with house.database.transaction() as connection:
                await cursors.drop_lease(connection, "anna", "elsewhere:1:1")
            await daemon.until(lambda: len(server.logins) == 2)


async def test_a_daemon_that_lost_a_part_of_itself_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is started anew: better than one that looks alive and files nothing."""

    async def fails(self: SmartBcc) -> None:
        raise ValueError("a bug of ours")

    monkeypatch.setattr(SmartBcc, "keep_what_comes", fails)

    with pytest.raises(ExceptionGroup, match="unhandled errors"):
        async with asyncio.timeout(WAIT):
            await app.run(lambda: settings_in(tmp_path))
