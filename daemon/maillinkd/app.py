"""What is open while the daemon runs: database, doors; start, ready, stop."""

import asyncio
import fcntl
import gc
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import structlog

from maillinkd import logs, sdnotify
from maillinkd.directory.lines import read_line, rfc3339
from maillinkd.imap import poller
from maillinkd.imap.account import Account
from maillinkd.imap.client import connect
from maillinkd.imap.poller import MailboxState, Plan, Summary
from maillinkd.ingest.house import COMMAND, House
from maillinkd.ingest.office import BccTarget, Office
from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.mail.message import Role, parse
from maillinkd.settings import ConfigurationError, Problem, Settings, changes_that_need_a_restart, without_restart
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.smtp.listener import Listener, ListenerConfig
from maillinkd.store import cursors, upgrade
from maillinkd.store.database import Database, copy_sqlite, open_database

SMART_BCC = "smart_bcc"
LEASE = timedelta(seconds=20)
"""How long a mailbox stays with a process that does not renew its lease."""
LEASE_ON_SQLITE = timedelta(seconds=60)
"""There all processes are on this host, and one that is gone is mostly known to be (`_is_dead`); but in a container
that was made anew the host has another name."""
DRAIN = 25.0
"""Seconds that connections get to finish at SIGTERM."""
RESERVE = 64 * 1024 * 1024
"""Bytes of disk that are not given to mail, so that what is there can still be worked on."""

log = structlog.get_logger("maillinkd")

_T = TypeVar("_T")
Publish = Callable[[dict[str, Any]], None]
"""Where decision lines go, if not to the log."""


class CannotListen(OSError):
    """An address of `smart_bcc.listen` cannot be had: another program has it, or it needs privileges."""


# -- the house -------------------------------------------------------------------------------------------------------


def office_of(settings: Settings) -> Office:
    """What the rules need to know of the configuration. Raises ConfigurationError where a key file is missing."""
    address = _smart_bcc_address(settings)

    def recipient(text: str) -> BccTarget | None:
        target = address.parse(text) if address is not None else None
        return None if target is None else BccTarget(target.item)

    return Office(settings, recipient)


def _smart_bcc_address(settings: Settings) -> SmartBccAddress | None:
    bcc = settings.smart_bcc
    if not bcc.domain or not bcc.local_part:
        return None
    return SmartBccAddress(bcc.domain, bcc.local_part, settings.read_address_key())


@asynccontextmanager
async def open_house(
    settings: Settings, *, instance: str = COMMAND, publish: Publish | None = None
) -> AsyncIterator[House]:
    """Opens log, database and journal for a command or for the daemon.

    A SQLite schema that is older than the program is brought up to date; another one is refused (SchemaOutdated,
    SchemaTooNew). Raises TemporaryFailure where the database does not answer, ConfigurationError, OSError.
    """
    _collect_garbage_rarely()
    decisions = logs.configure(settings.log.format, decisions_file=settings.log.decisions)
    async with AsyncExitStack() as stack:
        stack.callback(decisions.close)
        database = await stack.enter_async_context(_database(settings))
        house = House(database, office_of(settings), instance=instance, publish=publish or decisions.write)
        yield house
        await house.note_told()


def _collect_garbage_rarely() -> None:
    """Filing makes many small values, nearly none in cycles: looking for cycles took a quarter of a first sync."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = open_database(settings.database.async_url())
    try:
        await upgrade.make_ready(database)
        yield database
    finally:
        await database.close()


# -- the daemon ------------------------------------------------------------------------------------------------------


async def run(load: Callable[[], Settings], only: Sequence[str] = ()) -> None:
    """The daemon: follows mailboxes and receives Smart Bcc mail until SIGTERM or SIGINT; SIGHUP reloads.

    `load` reads the configuration; `only` names what this instance is for (`smart_bcc`, mailboxes), all if empty.
    Raises ConfigurationError for a name in `only` that is not configured, and what `open_house` raises.
    """
    settings = load()
    served = _served(settings, only)
    settings.require_secrets(served.mailboxes, smart_bcc=served.smart_bcc)
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(settings, instance=_instance(only)))
        for warning in settings.warnings():
            log.warning(warning)
        await house.tell_unlogged(served.mailboxes, smart_bcc=served.smart_bcc)
        daemon = _Daemon(house, settings, load, only)
        await daemon.live(served)


def _instance(only: Sequence[str]) -> str:
    """The name under which this instance's decisions stand in the journal; the same after a restart."""
    return f"{socket.gethostname()}/{','.join(sorted(only)) or 'all'}"[:64]


@dataclass(frozen=True, slots=True)
class _Served:
    mailboxes: frozenset[str]
    smart_bcc: bool


def _served(settings: Settings, only: Sequence[str]) -> _Served:
    """What an instance is for. Raises ConfigurationError for a name that is not there."""
    names = frozenset(settings.mailboxes)
    if not only:
        return _Served(names, settings.smart_bcc.enabled)
    unknown = sorted(set(only) - names - {SMART_BCC})
    if unknown or (SMART_BCC in only and not settings.smart_bcc.enabled):
        wrong = unknown[0] if unknown else SMART_BCC
        known = ", ".join(sorted([*names, *([SMART_BCC] if settings.smart_bcc.enabled else [])])) or "nothing"
        raise ConfigurationError([Problem("--only", wrong, f"expected one of what is configured: {known}")])
    return _Served(names & set(only), SMART_BCC in only)


class _Daemon:
    """One running instance. All its tasks live in `live`."""

    def __init__(self, house: House, settings: Settings, load: Callable[[], Settings], only: Sequence[str]) -> None:
        self._house = house
        self._settings = settings
        self._load = load
        self._only = only
        self._mailboxes: dict[str, tuple[Account, asyncio.Task[None]]] = {}
        self._former: dict[str, asyncio.Task[None]] = {}
        """By mailbox, the task that followed it before the last reload."""
        self._states: dict[str, MailboxState] = {}
        self._changed = asyncio.Event()
        self._listener: Listener | None = None
        self._decisions: logs.DecisionLog | None = None
        """Opened by a reload; the first one is the house's."""
        self._following: dict[str, asyncio.Task[Summary]] = {}
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"
        self._lease_time = LEASE_ON_SQLITE if house.database.is_sqlite else LEASE

    async def live(self, served: _Served) -> None:
        """Starts everything, says ready, waits for the end, and stops in reverse."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if served.smart_bcc:
            self._listener = await self._listen()
        async with asyncio.TaskGroup() as tasks:
            loop.add_signal_handler(signal.SIGHUP, self._reload, tasks)
            background = [tasks.create_task(self._report_states()), tasks.create_task(self._note_told())]
            background += [tasks.create_task(_keep_watchdog_quiet()), tasks.create_task(self._renew_leases())]
            if served.smart_bcc:
                background.append(tasks.create_task(self._house.keep_what_comes()))
                background.append(tasks.create_task(self._house.file_what_was_kept()))
            background.append(tasks.create_task(self._finish_imports()))
            for name in sorted(served.mailboxes):
                self._follow(tasks, name)
            log.info("ready", mailboxes=sorted(served.mailboxes), smart_bcc=self._addresses())
            sdnotify.ready(f"following {len(served.mailboxes)} mailboxes")
            await self._until(stop, background)
            log.info("stopping")
            sdnotify.stopping()
            for _, task in self._mailboxes.values():
                task.cancel()
            if self._listener is not None:
                await self._listener.stop(DRAIN)
            for task in background:
                task.cancel()
        await self._house.note_told()
        log.info("stopped")
        if self._decisions is not None:
            self._decisions.close()

    @staticmethod
    async def _until(stop: asyncio.Event, background: Collection[asyncio.Task[None]]) -> None:
        """Until we are told to stop, or a task that all depend on has ended."""
        waiting = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({waiting, *background}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()

    async def _finish_imports(self) -> None:
        """Decides what an import that was cut off has left. Whatever goes wrong there, mailboxes are followed."""
        while True:
            try:
                await self._house.finish_imports()
                break
            except TemporaryFailure as failure:
                log.warning("an import that was cut off waits", error=str(failure))
            except Exception:
                log.exception("an import that was cut off could not be finished")
            await asyncio.sleep(300)
        await asyncio.Event().wait()

    # -- doors

    async def _listen(self) -> Listener:
        config = _listener_config(self._settings)
        key = "tls_certificate"
        try:
            sockets = sdnotify.listen_fds(SMART_BCC)
            if sockets:  # they are those addresses, opened by systemd
                config = replace(config, listen=())
            listener = Listener(config, self._house.take, check_author=self._check_author, has_room=self._has_room)
            key = "listen"
            await listener.start(sockets)
        except OSError as error:
            where = self._settings.source_of(SMART_BCC, key)
            raise CannotListen(f"{where}: smart_bcc.{key}: {error.strerror or error}") from error
        return listener

    def _addresses(self) -> list[str]:
        return [f"{host}:{port}" for host, port in self._listener.addresses] if self._listener else []

    async def _check_author(self, headers: bytes, _sender: str) -> str | None:
        """`unknown_sender = "reject"`: refuses before the reply to DATA whose author is no user (L14)."""
        if self._settings.smart_bcc.unknown_sender != "reject":
            return None
        message = parse(headers, received_at=datetime.now(UTC), size=len(headers))
        authors = [each.address for each in message.participants if each.role is Role.FROM]
        if len(authors) == 1 and self._house.office.owner_of_address(authors[0]) is not None:
            return None
        return "550 5.7.1 The author of this message may not use this address"

    def _has_room(self, size: int) -> bool:
        path = self._house.database.path
        return path is None or shutil.disk_usage(path.parent).free > RESERVE + size * 3 // 2

    def _follow(self, tasks: asyncio.TaskGroup, name: str) -> None:
        account = _account(self._settings, name, datetime.now(UTC).date())
        task = tasks.create_task(
            self._follow_with_lease(account, self._former.pop(name, None)), name=f"mailbox {name}"
        )
        self._mailboxes[name] = (account, task)

    def _let_go(self, name: str) -> None:
        _, task = self._mailboxes.pop(name)
        task.cancel()
        self._former[name] = task

    async def _follow_with_lease(self, account: Account, former: asyncio.Task[None] | None) -> None:
        """Follows a mailbox while nobody else does: what fails here stops nothing else."""
        name = account.name
        if former is not None:  # which gives the lease back when it ends
            await asyncio.wait({former})
        while True:
            await self._lease(name)
            following = asyncio.create_task(poller.follow(account, self._house, report=self._report))
            self._following[name] = following
            try:
                await asyncio.wait({following})
                if not following.cancelled() and (error := following.exception()) is not None:
                    log.error("mailbox failed", mailbox=name, error=str(error), exc_info=error)
                    await asyncio.sleep(30)
            finally:
                following.cancel()
                await asyncio.wait({following})
                await self._give_back(name)

    async def _lease(self, name: str) -> None:
        """Waits until the mailbox is ours: no two processes work on one. Says who has it meanwhile."""
        said = ""
        while (other := await self._take_lease(name)) is not None:
            if other != said:
                log.warning("mailbox is followed by another process; waiting", mailbox=name, holder=other)
                said = other
            await asyncio.sleep(2)
        if said:
            log.info("mailbox is taken over", mailbox=name)
            await self._tell_for(name)

    async def _tell_for(self, name: str) -> None:
        """Writes the lines of decisions that the one who had the mailbox made and did not live to tell."""
        try:
            await self._house.tell_unlogged({name})
        except TemporaryFailure as failure:
            log.warning("the journal cannot be read", error=str(failure))

    async def _take_lease(self, name: str) -> str | None:
        now = datetime.now(UTC)
        try:
            async with self._house.database.transaction() as connection:
                other = await cursors.take_lease(connection, name, self._holder, now, now + self._lease_time)
                if other is not None and _is_dead(other):
                    await cursors.drop_lease(connection, name, other)
                    other = await cursors.take_lease(connection, name, self._holder, now, now + self._lease_time)
                return other
        except TemporaryFailure as failure:
            return f"nobody, but the database fails: {failure}"

    async def _give_back(self, name: str) -> None:
        self._following.pop(name, None)
        try:
            async with self._house.database.transaction() as connection:
                await cursors.drop_lease(connection, name, self._holder)
        except TemporaryFailure as failure:
            log.warning("lease is left to expire", mailbox=name, error=str(failure))

    async def _renew_leases(self) -> None:
        """Renews them in time; a mailbox that went to another process while we slept is let go."""
        while True:
            await asyncio.sleep(self._lease_time.total_seconds() / 4)
            if not self._following:
                continue
            try:
                async with self._house.database.transaction() as connection:
                    until = datetime.now(UTC) + self._lease_time
                    ours = await cursors.renew_leases(connection, self._holder, until)
            except TemporaryFailure as failure:
                log.warning("leases cannot be renewed", error=str(failure))
                continue
            for name in self._following.keys() - ours:
                log.warning("mailbox went to another process", mailbox=name)
                self._following[name].cancel()

    # -- what it says of itself

    def _report(self, state: MailboxState) -> None:
        self._states[state.mailbox] = state
        self._changed.set()

    async def _report_states(self) -> None:
        """Writes what the mailboxes are doing, for `status`, once a second at most."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            states, self._states = self._states, {}
            try:
                async with self._house.database.transaction() as connection:
                    for name, state in states.items():
                        await cursors.report(connection, name, _state_facts(state), datetime.now(UTC))
            except TemporaryFailure as failure:
                log.warning("status cannot be written", error=str(failure))
                self._states = states | self._states
            sdnotify.status(_status(self._mailboxes, states))
            await asyncio.sleep(1)

    async def _note_told(self) -> None:
        """Notes which decision lines were written, and writes those that could not be (a full disk)."""
        while True:
            await asyncio.sleep(2)
            try:
                await self._house.note_told()
                if self._house.lines_are_due:
                    await self._house.tell_unlogged()
            except TemporaryFailure as failure:
                log.warning("the journal cannot be written", error=str(failure))

    # -- SIGHUP

    def _reload(self, tasks: asyncio.TaskGroup) -> None:
        """Takes over a new configuration once it is checked as a whole; a wrong one is refused, the old one stays."""
        sdnotify.reloading()
        try:
            new = self._load()
            for key in changes_that_need_a_restart(self._settings, new):
                log.warning("takes effect with the next restart", key=key)
            new = without_restart(self._settings, new)
            if self._listener is not None and not new.smart_bcc.address:  # switched off, with the next restart
                new = new.model_copy(update={"smart_bcc": self._settings.smart_bcc})
            served = _served(new, self._only)
            new.require_secrets(served.mailboxes, smart_bcc=served.smart_bcc)
            office = office_of(new)
            if self._listener is not None:
                self._listener.reconfigure(_listener_config(new))
            if new.log != self._settings.log:
                self._reopen_log(new)
        except (ConfigurationError, OSError, ValueError) as error:
            log.error("configuration refused; the old one stays", error=str(error))  # noqa: TRY400  # the admin's
            sdnotify.ready("the new configuration was refused")
            return
        self._settings, self._house.office = new, office
        for name, (account, _) in list(self._mailboxes.items()):
            if name not in served.mailboxes or _changed(account, new):
                self._let_go(name)
        for name in sorted(served.mailboxes - self._mailboxes.keys()):
            self._follow(tasks, name)
        log.info("reloaded", mailboxes=sorted(self._mailboxes))
        sdnotify.ready(f"following {len(self._mailboxes)} mailboxes")

    def _reopen_log(self, new: Settings) -> None:
        """Raises OSError if the new `decisions` file cannot be opened; then the old one stays."""
        decisions = logs.configure(new.log.format, decisions_file=new.log.decisions)
        self._house.publish = decisions.write
        if self._decisions is not None:
            self._decisions.close()
        self._decisions = decisions


async def _keep_watchdog_quiet() -> None:
    """Tells systemd that the loop is alive, as often as it asks."""
    interval = sdnotify.watchdog_interval()
    while interval is not None:
        sdnotify.watchdog()
        await asyncio.sleep(interval)
    await asyncio.Event().wait()


def _is_dead(holder: str) -> bool:
    """Whether a lease's holder was a process of this host that is no more."""
    host, pid, started = holder.rsplit(":", 2)
    return host == socket.gethostname() and _started(int(pid)) != started


def _started(pid: int) -> str:
    """When a process of this host started, in ticks since boot (proc(5), stat); empty if it is no more."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _listener_config(settings: Settings) -> ListenerConfig:
    bcc = settings.smart_bcc
    address = _smart_bcc_address(settings)
    assert address is not None, "the settings have checked it"
    return ListenerConfig(
        recipients=address,
        hostname=socket.gethostname() if "." in socket.gethostname() else bcc.domain,
        listen=tuple((each.host, each.port) for each in bcc.listen),
        max_message_size=bcc.max_message_size,
        tls_certificate=bcc.tls_certificate,
        tls_key=bcc.tls_key,
        spool_directory=path.parent if (path := settings.database.sqlite_path()) else None,
        exempt_clients=("127.0.0.0/8", "::1/128", *map(str, bcc.trusted_relays)),
    )


def _account(settings: Settings, name: str, today: date) -> Account:
    mailbox = settings.mailboxes[name]
    return Account(
        name=name,
        host=mailbox.host,
        port=mailbox.port,
        tls=mailbox.tls,
        username=mailbox.username,
        password=_Password(settings, name),
        folders=mailbox.folders,
        since=mailbox.since_date(today),
        store=mailbox.store,
        expunged=mailbox.expunged,
        poll_interval=mailbox.poll_interval,
        tls_ca_file=str(mailbox.ca_file) if mailbox.ca_file else None,
    )


def _changed(account: Account, new: Settings) -> bool:
    """Whether a mailbox is to be followed in another way; that the day is another one makes no difference."""
    return replace(_account(new, account.name, datetime.now(UTC).date()), since=account.since) != account


@dataclass(frozen=True, slots=True)
class _Password:
    """How to get a mailbox's password; equal while the configuration says the same."""

    settings: Settings
    mailbox: str

    def __call__(self) -> str:
        return self.settings.read_password(self.mailbox)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, _Password)
            and self.settings.mailboxes.get(self.mailbox) == other.settings.mailboxes.get(other.mailbox)
            and self.mailbox == other.mailbox
        )

    def __hash__(self) -> int:
        return hash(self.mailbox)


def _state_facts(state: MailboxState) -> dict[str, Any]:
    return {
        "state": str(state.state),
        "since": rfc3339(state.since),
        "folder": state.folder or None,
        "last_success": state.last_success and rfc3339(state.last_success),
        "next_try": state.next_try and rfc3339(state.next_try),
        "last_error": state.last_error or None,
        "missing_folders": list(state.missing_folders),
        "filed": state.filed,
        "lag": state.pending,
    }


def _status(mailboxes: Collection[str], states: Mapping[str, MailboxState]) -> str:
    troubled = sorted(name for name, state in states.items() if state.last_error)
    return f"following {len(mailboxes)} mailboxes" + (f"; trouble with {', '.join(troubled)}" if troubled else "")


# -- commands that talk to servers -----------------------------------------------------------------------------------


async def sync(
    settings: Settings,
    mailboxes: Sequence[str],
    report: Callable[[MailboxState], None],
    *,
    publish: Publish | None = None,
) -> dict[str, Summary | Exception]:
    """One pass over mailboxes (all, if none is named) until each is up to date. A failure of one stops no other.

    Returns what became of each: a summary, or why it could not be finished. Raises as `open_house`.
    """
    names = sorted(mailboxes or settings.mailboxes)
    settings.require_secrets(names)
    async with open_house(settings, publish=publish) as house:
        await house.finish_imports()
        today = datetime.now(UTC).date()

        async def one(name: str) -> Summary | Exception:
            account = _account(settings, name, today)
            outcome = await _attempt(poller.follow(account, house, report=report, once=True))
            await _report_once(house, name, outcome)
            return outcome

        outcomes = await asyncio.gather(*map(one, names))
    return dict(zip(names, outcomes, strict=True))


async def _attempt(work: Coroutine[Any, Any, _T]) -> _T | Exception:
    try:
        return await work
    except Exception as error:  # noqa: BLE001  # the caller tells it
        return error


async def _report_once(house: House, name: str, outcome: Summary | Exception) -> None:
    now = rfc3339(datetime.now(UTC))
    facts: dict[str, Any] = {"state": "done", "since": now, "last_success": now, "last_error": None}
    if isinstance(outcome, Exception):
        facts |= {"state": "failed", "last_success": None, "last_error": str(outcome)}
    async with house.database.transaction() as connection:
        await cursors.report(connection, name, facts, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class DryRun:
    """What `sync` would do. Each by mailbox, with the reason in its place where it could not be found out."""

    plans: dict[str, Plan | Exception]
    decisions: list[dict[str, Any]] | None
    """The lines of the decisions that it would come to; None with PostgreSQL, where there is no copy to try it on."""


async def dry_run(settings: Settings, mailboxes: Sequence[str], report: Callable[[MailboxState], None]) -> DryRun:
    """Finds out what `sync` would fetch and decide, on a copy of the database that is thrown away."""
    names = sorted(mailboxes or settings.mailboxes)
    settings.require_secrets(names)
    today = datetime.now(UTC).date()
    with _copied(settings) as copy:
        async with open_house(copy) as house:
            plans = (poller.plan(_account(settings, name, today), house) for name in names)
            found = dict(zip(names, await asyncio.gather(*map(_attempt, plans)), strict=True))
        if not settings.database.is_sqlite:
            return DryRun(found, None)
        lines: list[dict[str, Any]] = []
        reachable = [name for name, plan in found.items() if not isinstance(plan, Exception)]
        if reachable:
            await sync(copy, reachable, report, publish=lines.append)
    return DryRun(found, lines)


@contextmanager
def _copied(settings: Settings) -> Iterator[Settings]:
    """The settings with a copy of the SQLite database in its place, for as long as it is needed."""
    path = settings.database.sqlite_path()
    if path is None:
        yield settings
        return
    with TemporaryDirectory(prefix="maillinkd-", dir=path.parent if path.parent.is_dir() else None) as directory:
        copy = Path(directory) / "copy.db"
        if path.exists():
            copy_sqlite(path, copy)
        database = settings.database.model_copy(update={"url": f"sqlite:///{copy}"})
        log_settings = settings.log.model_copy(update={"decisions": None})
        yield settings.model_copy(update={"database": database, "log": log_settings})


async def check_login(settings: Settings, mailbox: str) -> list[str]:
    """Logs in to a mailbox and returns the names of the folders there. Raises what the IMAP door raises."""
    connection = await connect(_account(settings, mailbox, datetime.now(UTC).date()))
    try:
        found = await connection.folders()
        await connection.logout()
    finally:
        connection.abort()
    return [folder.name for folder in found]


# -- the demo --------------------------------------------------------------------------------------------------------


async def run_demo(load: Callable[[Path], Settings]) -> None:
    """What `make run` runs: the daemon on config/demo.toml, beside an IMAP server of its own with a sample mailbox.

    Begins afresh each time, unless another process has the demo's database open. Raises as `run`.
    """
    from maillinkd import demo  # pymap is an extra

    async with demo.serve() as (host, port):
        settings = load(demo.config_file())
        mailboxes = {
            name: each.model_copy(update={"host": host, "port": port}) for name, each in settings.mailboxes.items()
        }
        settings = settings.model_copy(update={"mailboxes": mailboxes})
        _begin_afresh(settings)
        async with open_house(settings) as house:
            lines = demo.items_file().read_bytes().splitlines()
            await house.import_items([read_line(line) for line in lines if line.strip()])
            log.info("demo mailbox", imap=f"{host}:{port}", user=demo.USER, password=demo.PASSWORD)
        await run(lambda: settings)


def _begin_afresh(settings: Settings) -> None:
    """Removes the demo's former database, which nobody has open."""
    path = settings.database.sqlite_path()
    if path is None or not path.exists():
        return
    with Path(f"{path}.checkpoint").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
