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
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from maillinkd import logs, sdnotify
from maillinkd.directory.lines import read_line, rfc3339
from maillinkd.imap import audit as imap_audit
from maillinkd.imap import plan as imap_plan
from maillinkd.imap import poller
from maillinkd.imap.account import Account
from maillinkd.imap.audit import Audit
from maillinkd.imap.budget import Traffic
from maillinkd.imap.client import connect
from maillinkd.imap.errors import ImapError
from maillinkd.imap.plan import Plan
from maillinkd.imap.poller import Summary
from maillinkd.imap.state import MailboxState
from maillinkd.ingest import changes, imports
from maillinkd.ingest.authors import Authenticate
from maillinkd.ingest.house import COMMAND, House
from maillinkd.ingest.office import BccTarget, Office
from maillinkd.ingest.smart_bcc import SmartBcc
from maillinkd.ingest.synced import Synced
from maillinkd.ingest.upkeep import Upkeep
from maillinkd.mail.delivery import DiskFailed, Received, TemporaryFailure
from maillinkd.oauth import keeper
from maillinkd.oauth.keeper import tokens_of
from maillinkd.oauth.login import Invite
from maillinkd.oauth.token import AccessToken
from maillinkd.settings import ConfigurationError, Problem, Settings, changes_that_need_a_restart, without_restart
from maillinkd.smtp.address import SmartBccAddress
from maillinkd.store import aliases, cursors, journal, tokens, upgrade, views
from maillinkd.store.database import Database, copy_sqlite, open_database
from maillinkd.worker.parent import Worker

if TYPE_CHECKING:  # who does not listen needs no SMTP
    from maillinkd.smtp.config import ListenerConfig
    from maillinkd.smtp.listener import Listener

SMART_BCC = "smart_bcc"
LEASE = timedelta(seconds=20)
"""How long a mailbox stays with a process that does not renew its lease."""
LEASE_ON_SQLITE = timedelta(seconds=60)
"""There all processes are on this host, and one that is gone is mostly known to be (`_is_dead`); but in a container
that was made anew the host has another name."""
DRAIN = 25.0
"""Seconds that connections get to finish at SIGTERM."""
TELL_SMTP = 5.0
"""Seconds between two notes of what the SMTP door has seen."""

log = structlog.get_logger("maillinkd")

_T = TypeVar("_T")
Publish = Callable[[dict[str, Any]], None]
"""Where decision lines go, if not to the log."""


class CannotListen(OSError):
    """An address of `smart_bcc.listen` cannot be had: another program has it, or it needs privileges."""


# -- the house -------------------------------------------------------------------------------------------------------


def office_of(settings: Settings, *, alias_key: bytes = b"") -> Office:
    """What the rules need to know of the configuration. Raises ConfigurationError where a key file is missing.

    `alias_key`: with which one-time addresses are signed (store.aliases.key).
    """
    address = smart_bcc_address(settings, alias_key)

    def recipient(text: str) -> BccTarget | None:
        target = address.parse(text) if address is not None else None
        return None if target is None else BccTarget(target.item, target.alias)

    return Office(settings, recipient, alias_key=alias_key)


def smart_bcc_address(settings: Settings, alias_key: bytes = b"") -> SmartBccAddress | None:
    """The Smart Bcc address of the configuration; None where it has none."""
    bcc = settings.smart_bcc
    if not bcc.domain or not bcc.local_part:
        return None
    return SmartBccAddress(bcc.domain, bcc.local_part, settings.read_address_keys(), alias_key)


@asynccontextmanager
async def open_house(
    settings: Settings, *, instance: str = COMMAND, publish: Publish | None = None, decides: bool = True
) -> AsyncIterator[House]:
    """Opens log, database and journal for a command or for the daemon.

    `decides`: False for a command that makes no decisions, and needs no `decisions` file.
    A SQLite schema that is older than the program is brought up to date; another one is refused (SchemaOutdated,
    SchemaTooNew). Raises TemporaryFailure where the database does not answer, NoDatabase where there is none,
    ConfigurationError.
    """
    gc.freeze()  # what is loaded stays
    decisions = _configured_log(settings) if decides else logs.configure(settings.log.format)
    async with AsyncExitStack() as stack:
        stack.callback(decisions.close)
        database = await stack.enter_async_context(_database(settings))
        worker = await stack.enter_async_context(Worker())
        office = office_of(settings, alias_key=await aliases.key(database))
        house = House(database, office, instance=instance, publish=publish or decisions.write, worker=worker)
        await house.refresh_aliases()
        yield house
        await house.note_told()


def _configured_log(settings: Settings) -> logs.DecisionLog:
    """Raises ConfigurationError if the `decisions` file cannot be written."""
    with _decisions_file(settings):
        return logs.configure(settings.log.format, decisions_file=settings.log.decisions)


def require_decisions_file(settings: Settings) -> None:
    """Raises ConfigurationError if the `decisions` file cannot be written. Makes none."""
    if settings.log.decisions is not None:
        with _decisions_file(settings):
            logs.require_decisions_file(settings.log.decisions)


@contextmanager
def _decisions_file(settings: Settings) -> Iterator[None]:
    """Says where the configuration names it."""
    try:
        yield
    except OSError as error:
        expected = "expected a file that this user may write, in a folder that is there"
        said = f"{expected}: {settings.log.decisions}: {error.strerror or error}"
        raise ConfigurationError([Problem(settings.source_of("log", "decisions"), "log.decisions", said)]) from error


def database_of(settings: Settings) -> Database:
    """The database of the configuration, opened as it is. Its errors name the place. Raises as `open_database`."""
    return open_database(settings.database.async_url(), _place_of_database(settings))


def _place_of_database(settings: Settings) -> str:
    return f"{settings.source_of('database', 'url')}: database.url"


@asynccontextmanager
async def _database(settings: Settings) -> AsyncIterator[Database]:
    database = database_of(settings)
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
        self._synced = Synced(house)
        self._smart_bcc = SmartBcc(house)
        self._settings = settings
        self._load = load
        self._only = only
        self._mailboxes: dict[str, tuple[Account, asyncio.Task[None]]] = {}
        self._former: dict[str, asyncio.Task[None]] = {}
        """By mailbox, the task that followed it before the last reload."""
        self._states: dict[str, MailboxState] = {}
        self._changed = asyncio.Event()
        self._listener: Listener | None = None
        self._upkeep = Upkeep(house)
        self._decisions: logs.DecisionLog | None = None
        """Opened by a reload; the first one is the house's."""
        self._following: dict[str, asyncio.Task[Summary]] = {}
        self._since = rfc3339(datetime.now(UTC))
        self._smtp_noted: dict[str, Any] = {}
        self._holder = _holder()
        self._lease_time = _lease_time(house.database)

    async def live(self, served: _Served) -> None:
        """Starts everything, says ready, waits for the end, and stops in reverse."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        if served.smart_bcc:
            self._smart_bcc.authenticate = _authenticator(self._settings)
            self._listener = await self._listen()
        async with asyncio.TaskGroup() as tasks:
            loop.add_signal_handler(signal.SIGHUP, self._reload, tasks)
            background = [tasks.create_task(self._report_states()), tasks.create_task(self._note_told())]
            background += [tasks.create_task(_keep_watchdog_quiet()), tasks.create_task(self._renew_leases())]
            background += [tasks.create_task(self._upkeep.run()), tasks.create_task(self._wait_for_a_failed_disk())]
            if served.smart_bcc:
                background.append(tasks.create_task(self._report_smtp()))
                background.append(tasks.create_task(self._smart_bcc.keep_what_comes()))
                background.append(tasks.create_task(self._smart_bcc.file_what_was_kept()))
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
        if self._house.database.disk_failed.is_set():
            raise DiskFailed("stopped, because the disk has failed; to be started again")
        await self._note_states()  # what was received until now
        await self._note_smtp()
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
                await imports.finish_imports(self._house)
                break
            except TemporaryFailure as failure:
                log.warning("an import that was cut off waits", error=str(failure))
            except Exception:
                log.exception("an import that was cut off could not be finished")
            await asyncio.sleep(300)
        await asyncio.Event().wait()

    # -- doors

    async def _listen(self) -> "Listener":
        from maillinkd.smtp.listener import Listener

        config = _listener_config(self._settings, self._house.office)
        key = "tls_certificate"
        try:
            sockets = sdnotify.listen_fds(SMART_BCC)
            if sockets:  # they are those addresses, opened by systemd
                config = replace(config, listen=())
            take = self._smart_bcc.take
            listener = Listener(config, take, check_author=self._check_author, has_room=self._has_room)
            key = "listen"
            await listener.start(sockets)
        except OSError as error:
            where = self._settings.source_of(SMART_BCC, key)
            raise CannotListen(f"{where}: smart_bcc.{key}: {error.strerror or error}") from error
        return listener

    def _addresses(self) -> list[str]:
        return [f"{host}:{port}" for host, port in self._listener.addresses] if self._listener else []

    async def _check_author(self, received: Received) -> Received | None:
        """`unknown_sender = "reject"`, and a full quarantine: who may not write to us is refused at once (L14)."""
        full = self._upkeep.is_full(self._listener.counters.octets if self._listener else 0)
        if self._settings.smart_bcc.unknown_sender != "reject" and not full:
            return received
        return await self._smart_bcc.vouch(received)

    def _has_room(self, size: int) -> bool:
        """Whether the disk has room for a message of so many octets (0: not said), and a reserve."""
        path = self._house.database.path
        if path is None:
            return True
        bcc, disk = self._settings.smart_bcc, shutil.disk_usage(path.parent)
        return _is_enough(disk.free, disk.total, bcc.minimum_free, size or bcc.max_message_size)

    def _follow(self, tasks: asyncio.TaskGroup, name: str) -> None:
        account = _account(self._settings, name, datetime.now(UTC).date(), self._house.database)
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
            traffic = await self._traffic(name)
            follow = poller.follow(account, self._synced, report=self._report, traffic=traffic)
            following = asyncio.create_task(follow)
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

    async def _traffic(self, name: str) -> Traffic:
        """What came from a mailbox's server lately."""
        if state := self._states.get(name):  # not written yet
            return state.traffic
        try:
            return await _traffic(self._house.database, name)
        except TemporaryFailure as failure:
            log.warning("what was received today cannot be read", mailbox=name, error=str(failure))
            return Traffic()

    async def _take_lease(self, name: str) -> str | None:
        try:
            return await _take_lease(self._house.database, name, self._holder)
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
            states = self._states
            await self._note_states()
            sdnotify.status(_status(self._mailboxes, states))
            await asyncio.sleep(1)

    async def _note_states(self) -> None:
        states, self._states = self._states, {}
        try:
            async with self._house.database.transaction() as connection:
                for name, state in states.items():
                    await cursors.report(connection, name, _state_facts(state), datetime.now(UTC))
        except TemporaryFailure as failure:
            log.warning("status cannot be written", error=str(failure))
            self._states = states | self._states

    async def _report_smtp(self) -> None:
        """Writes what the SMTP door has seen, for `status`."""
        while True:
            try:
                await self._note_smtp()
            except TemporaryFailure as failure:
                log.warning("status cannot be written", error=str(failure))
            await asyncio.sleep(TELL_SMTP)

    async def _note_smtp(self) -> None:
        if self._listener is None:
            return
        facts = {"open": self._listener.connections, **self._listener.counters.facts()}
        if facts == self._smtp_noted:
            return
        async with self._house.database.transaction() as connection:
            await cursors.report(connection, SMART_BCC, {"since": self._since, **facts}, datetime.now(UTC))
        self._smtp_noted = facts

    async def _wait_for_a_failed_disk(self) -> None:
        """Ends when what was to be made durable was not: nobody knows then what is on the disk (fsync(2), EIO)."""
        await self._house.database.disk_failed.wait()
        log.critical("the disk has failed; stopping")

    async def _note_told(self) -> None:
        """Notes which decision lines were written, and writes those that could not be (a full disk)."""
        while True:
            await asyncio.sleep(2)
            try:
                await self._house.note_told()
                await self._house.refresh_aliases()
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
            former = self._house.office
            office = replace(office_of(new, alias_key=former.alias_key), aliases=former.aliases)
            authenticate = _authenticator(new) if served.smart_bcc else None
            if self._listener is not None:
                self._listener.reconfigure(_listener_config(new, office))
            if new.log != self._settings.log:
                self._reopen_log(new)
        except (ConfigurationError, OSError, ValueError) as error:
            log.error("configuration refused; the old one stays", error=str(error))  # noqa: TRY400  # the admin's
            sdnotify.ready("the new configuration was refused")
            return
        self._settings, self._house.office, self._smart_bcc.authenticate = new, office, authenticate
        for name, (account, _) in list(self._mailboxes.items()):
            if name not in served.mailboxes or _changed(account, new):
                self._let_go(name)
        for name in sorted(served.mailboxes - self._mailboxes.keys()):
            self._follow(tasks, name)
        log.info("reloaded", mailboxes=sorted(self._mailboxes))
        sdnotify.ready(f"following {len(self._mailboxes)} mailboxes")

    def _reopen_log(self, new: Settings) -> None:
        """Raises ConfigurationError if the new `decisions` file cannot be written; then the old one stays."""
        decisions = _configured_log(new)
        self._house.publish = decisions.write
        if self._decisions is not None:
            self._decisions.close()
        self._decisions = decisions


def _is_enough(free: int, total: int, minimum_free: int, size: int) -> bool:
    """Whether a disk takes a message of this size (reliability.md, ENOSPC); all in bytes.

    A reserve of a tenth would be absurd on a large disk, and one that is fixed on a small one.
    """
    return free >= max(min(minimum_free, total // 10), size * 3 // 2)


async def _keep_watchdog_quiet() -> None:
    """Tells systemd that the loop is alive, as often as it asks."""
    interval = sdnotify.watchdog_interval()
    while interval is not None:
        sdnotify.watchdog()
        await asyncio.sleep(interval)
    await asyncio.Event().wait()


def _holder() -> str:
    """This process, as leases name it."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def _lease_time(database: Database) -> timedelta:
    return LEASE_ON_SQLITE if database.is_sqlite else LEASE


async def _take_lease(database: Database, name: str, holder: str) -> str | None:
    """Takes a mailbox's lease. Returns None, or who else has it."""
    now, until = datetime.now(UTC), datetime.now(UTC) + _lease_time(database)
    async with database.transaction() as connection:
        other = await cursors.take_lease(connection, name, holder, now, until)
        if other is not None and _is_dead(other):
            await cursors.drop_lease(connection, name, other)
            other = await cursors.take_lease(connection, name, holder, now, until)
        return other


@asynccontextmanager
async def _leased(database: Database, name: str) -> AsyncIterator[None]:
    """Keeps a mailbox for a command while it works on it. Raises TemporaryFailure where another process has it."""
    holder = _holder()
    other = await _take_lease(database, name, holder)
    if other is not None:
        raise TemporaryFailure(f"{other} follows it, and repairs it by itself (audit_interval); stop it first")
    renewing = asyncio.create_task(_keep_leases(database, holder))
    try:
        yield
    finally:
        renewing.cancel()
        async with database.transaction() as connection:
            await cursors.drop_lease(connection, name, holder)


async def _keep_leases(database: Database, holder: str) -> None:
    while True:
        await asyncio.sleep(_lease_time(database).total_seconds() / 4)
        try:
            async with database.transaction() as connection:
                await cursors.renew_leases(connection, holder, datetime.now(UTC) + _lease_time(database))
        except TemporaryFailure as failure:
            log.warning("leases cannot be renewed", error=str(failure))


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


def _authenticator(settings: Settings) -> Authenticate | None:
    """What checks the authors of Smart Bcc mail; None where From is believed.

    Raises ConfigurationError where there is no name server to ask.
    """
    if not settings.smart_bcc.require_authentication:
        return None
    from maillinkd.smtp.auth.check import Authenticator  # cryptography and dnspython: commands need neither
    from maillinkd.smtp.auth.resolver import Resolver

    try:
        resolver = Resolver([(each.host, each.port) for each in settings.dns.servers])
    except OSError as error:
        where = settings.source_of("dns", "servers")
        raise ConfigurationError([Problem(where, "dns.servers", f"{error}: expected some here")]) from error
    return Authenticator(resolver, authserv_id=settings.smart_bcc.authserv_id)


def _listener_config(settings: Settings, office: Office) -> "ListenerConfig":
    from maillinkd.smtp.config import ListenerConfig

    bcc = settings.smart_bcc
    address = smart_bcc_address(settings, office.alias_key)
    assert address is not None, "the settings have checked it"
    return ListenerConfig(
        recipients=address,
        hostname=socket.gethostname() if "." in socket.gethostname() else bcc.domain,
        listen=tuple((each.host, each.port) for each in bcc.listen),
        max_message_size=bcc.max_message_size,
        tls_certificate=bcc.tls_certificate,
        tls_key=bcc.tls_key,
        trusted_relays=bcc.trusted_relays,
        proxy_protocol=bcc.proxy_protocol,
        spool_directory=path.parent if (path := settings.database.sqlite_path()) else None,
        exempt_clients=tuple(map(str, (*bcc.unlimited_clients, *bcc.trusted_relays))),
        max_connections=bcc.max_connections,
        max_connections_per_client=bcc.max_connections_per_client,
        max_new_connections_per_minute=bcc.max_new_connections_per_minute,
        max_recipients=bcc.max_recipients,
        max_errors=bcc.max_errors,
        max_junk_commands=bcc.max_junk_commands,
        greeting_delay=bcc.greeting_delay,
        refusal_delay=bcc.refusal_delay,
        session_timeout=bcc.session_timeout,
        idle_timeout=bcc.idle_timeout,
        data_timeout=bcc.data_timeout,
        data_total_timeout=bcc.data_total_timeout,
        min_data_rate=bcc.min_data_rate,
    )


def _account(settings: Settings, name: str, today: date, logins: Database | None = None) -> Account:
    """`logins`: where OAuth tokens are stored."""
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
        audit_interval=mailbox.audit_interval,
        bytes_a_day=mailbox.bytes_a_day,
        tokens=tokens_of(settings, name, logins),
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
            and self.settings.oauth_client_of(self.mailbox) == other.settings.oauth_client_of(other.mailbox)
            and self.settings.oauth == other.settings.oauth
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
        "waits_for": state.waits_for or None,
        "next_look": state.next_look and rfc3339(state.next_look),
        "first_sync": state.first_sync,
        "last_error": state.last_error or None,
        "missing_folders": list(state.missing_folders),
        "filed": state.filed,
        "lag": state.pending,
        "traffic": state.traffic.hours,
    }


async def _traffic(database: Database, mailbox: str) -> Traffic:
    """What came from a mailbox's server lately, as it was reported last. Raises TemporaryFailure."""
    async with database.reading() as connection:
        state = await cursors.report_of(connection, mailbox)
    return Traffic.of_facts(state.get("traffic", ()))


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
    logins: Database | None = None,
) -> dict[str, Summary | Exception]:
    """One pass over mailboxes (all, if none is named) until each is up to date. A failure of one stops no other.

    `logins`: where OAuth tokens are stored, if it is another database. Returns what became of each: a summary, or why
    it could not be finished. Raises as `open_house`.
    """
    names = sorted(mailboxes or settings.mailboxes)
    settings.require_secrets(names)
    async with open_house(settings, publish=publish) as house:
        await imports.finish_imports(house)
        today = datetime.now(UTC).date()

        async def one(name: str) -> Summary | Exception:
            account = _account(settings, name, today, logins or house.database)
            outcome = await _attempt(_pass(account, house, report))
            await _report_once(house, name, outcome)
            return outcome

        outcomes = await asyncio.gather(*map(one, names))
    return dict(zip(names, outcomes, strict=True))


async def audit(
    settings: Settings, mailboxes: Sequence[str], *, repair: bool, report: Callable[[MailboxState], None]
) -> dict[str, Audit | Exception]:
    """Compares what the servers have with what is stored, for mailboxes (all, if none is named).

    With `repair` fetches what is missing, unless another process follows the mailbox (TemporaryFailure). Returns what
    became of each: what was found (after the repair), or why it could not be finished. Raises as `open_house`.
    """
    names = sorted(mailboxes or settings.mailboxes)
    settings.require_secrets(names)
    today = datetime.now(UTC).date()
    async with open_house(settings, decides=repair) as house:

        async def one(name: str) -> Audit | Exception:
            account = _account(settings, name, today, house.database)
            return await _attempt(_repair(account, house, report) if repair else _audit(account, house))

        outcomes = await asyncio.gather(*map(one, names))
    return dict(zip(names, outcomes, strict=True))


async def _audit(account: Account, house: House) -> Audit:
    """On a connection of its own; where the server permits no second one beside that of a daemon, says so."""
    try:
        return await imap_audit.audit(account, Synced(house))
    except ImapError as error:
        async with house.database.reading() as connection:
            holder = (await views.holders(connection, datetime.now(UTC))).get(account.name)
        if not error.no_connection_left or holder is None:
            raise
        raise TemporaryFailure(
            f"the server permits no connection beside that of {holder}, which audits the mailbox by itself "
            f"(audit_interval; `maillinkd status` shows what it found): {error}"
        ) from error


async def _pass(
    account: Account, house: House, report: Callable[[MailboxState], None], *, audit: bool = False
) -> Summary:
    """One pass of a command; what comes from the server counts together with what a daemon receives."""
    traffic = await _traffic(house.database, account.name)

    def note(state: MailboxState) -> None:
        nonlocal traffic
        traffic = state.traffic
        report(state)

    try:
        return await poller.follow(account, Synced(house), report=note, once=True, audit=audit, traffic=traffic)
    finally:
        async with house.database.transaction() as connection:
            facts = await cursors.report_of(connection, account.name) | {"traffic": traffic.hours}
            await cursors.report(connection, account.name, facts, datetime.now(UTC))


async def _repair(account: Account, house: House, report: Callable[[MailboxState], None]) -> Audit:
    async with _leased(house.database, account.name):
        summary = await _pass(account, house, report, audit=True)
    assert summary.audit is not None, "the pass was an audit"
    return summary.audit


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
        facts["traffic"] = (await cursors.report_of(connection, name)).get("traffic", ())
        await cursors.report(connection, name, facts, datetime.now(UTC))


@dataclass(frozen=True, slots=True)
class DryRun:
    """What `sync` would do. Each by mailbox, with the reason in its place where it could not be found out."""

    plans: dict[str, Plan | Exception]
    decisions: list[dict[str, Any]] | None
    """The lines of the decisions that it would come to; None with PostgreSQL, where there is no copy to try it on."""
    new_threads: frozenset[int] = frozenset()
    """Those in `decisions` that are only in the copy: no decision was made of them before."""


async def dry_run(settings: Settings, mailboxes: Sequence[str], report: Callable[[MailboxState], None]) -> DryRun:
    """Finds out what `sync` would fetch and decide, on a copy of the database that is thrown away."""
    names = sorted(mailboxes or settings.mailboxes)
    settings.require_secrets(names)
    with _copied(settings) as copy:
        return await _dry_run(settings, copy, names, report)


async def _dry_run(
    settings: Settings, copy: Settings, names: Sequence[str], report: Callable[[MailboxState], None]
) -> DryRun:
    """Tokens are those of the real database: one that is renewed may void the one before."""
    today = datetime.now(UTC).date()
    async with open_logins(settings, names) as logins:
        async with open_house(copy) as house:
            ledger = Synced(house)
            plans = (imap_plan.plan(_account(settings, name, today, logins), ledger) for name in names)
            found = dict(zip(names, await asyncio.gather(*map(_attempt, plans)), strict=True))
        if not settings.database.is_sqlite:
            return DryRun(found, None)
        lines: list[dict[str, Any]] = []
        reachable = [name for name, plan in found.items() if not isinstance(plan, Exception)]
        if reachable:
            await sync(copy, reachable, report, publish=lines.append, logins=logins)
        return DryRun(found, lines, await _new_threads(copy, lines))


async def _new_threads(copy: Settings, lines: Sequence[dict[str, Any]]) -> frozenset[int]:
    """The threads of these lines of which the copy's journal has no earlier one."""
    first: dict[int, int] = {}
    for line in lines:
        first[line["thread"]] = min(line["decision"], first.get(line["thread"], line["decision"]))
    async with open_house(copy) as house, house.database.reading() as connection:
        known = await journal.lines_before(connection, first.values())
    return frozenset(thread for thread, decision in first.items() if decision not in known)


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
            copy_sqlite(path, copy, _place_of_database(settings))
        database = settings.database.model_copy(update={"url": f"sqlite:///{copy}"})
        log_settings = settings.log.model_copy(update={"decisions": None})
        oauth = settings.oauth.model_copy(update={"key_file": settings.oauth_key_path()})
        yield settings.model_copy(update={"database": database, "log": log_settings, "oauth": oauth})


async def check_login(settings: Settings, mailbox: str) -> list[str]:
    """Logs in to a mailbox and returns the names of the folders there. Raises what the IMAP door raises."""
    async with open_logins(settings, [mailbox]) as logins:
        connection = await connect(_account(settings, mailbox, datetime.now(UTC).date(), logins))
    try:
        found = await connection.folders()
        await connection.logout()
    finally:
        connection.abort()
    return [folder.name for folder in found]


@asynccontextmanager
async def open_logins(settings: Settings, mailboxes: Sequence[str]) -> AsyncIterator[Database | None]:
    """The database with the OAuth tokens of these mailboxes, as it is; None where none of them can be there.

    Raises TemporaryFailure, OSError.
    """
    clients = (settings.oauth_client_of(name) for name in mailboxes)
    path = settings.database.sqlite_path()
    if not any(client and client.needs_a_person for client in clients) or (path is not None and not path.exists()):
        yield None
        return
    database = database_of(settings)
    try:
        yield None if (await upgrade.check(database)).needed else database
    finally:
        await database.close()


async def log_in(
    settings: Settings, mailbox: str, invite: Invite, pasted: AsyncIterator[str] | None = None
) -> AccessToken:
    """`auth login`: raises as `oauth.keeper.log_in`, and what `open_house` raises of the database."""
    async with _database(settings) as database:
        return await keeper.log_in(settings, mailbox, database, invite, pasted)


async def forget_login(settings: Settings, mailbox: str) -> bool:
    """`auth forget`: False if nothing was stored. Raises what `open_house` raises of the database."""
    async with _database(settings) as database, database.transaction() as connection:
        return await tokens.forget(connection, mailbox)


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
            await changes.import_items(house, [read_line(line) for line in lines if line.strip()])
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
