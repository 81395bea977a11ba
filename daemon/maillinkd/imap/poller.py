"""One task a mailbox: connect, catch up, watch, and when something breaks, back off and begin again.

The task owns no truth. Where each folder stands is in the ledger, and what a FETCH brought is handed to the ledger
together with the cursor that is right once it is filed. So the task may die anywhere, and the next one goes on where
the last transaction stopped.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import structlog

from maillinkd.imap import resync, sync
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.audit import Audit, FolderAudit, audit_folder
from maillinkd.imap.budget import Budget, Traffic
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import ImapError, LoginRefused, NoPassword, Refused, Unreachable
from maillinkd.imap.folders import Folder, resolve
from maillinkd.imap.reader import CHUNK, Brought, Reading, Trouble, first_chunks, starting
from maillinkd.imap.response import ProtocolError
from maillinkd.imap.sync import Direction, Opened
from maillinkd.imap.tally import uids_of
from maillinkd.mail.delivery import FolderBatch, FolderCursor, Ledger, Parsed, Stand, TemporaryFailure
from maillinkd.mail.message import FIELDS

_RELIST = 900.0
"""Seconds after which the server's folders are listed again, for those that a glob now finds."""
_LOOK_AROUND = 5.0
"""When mail came to the watched folder, the others are looked at too, but not more often than so many seconds."""
_FIRST_AUDIT = 3_600.0
"""The first audit comes by chance within so many seconds, so that not all mailboxes are audited together."""
_SECOND_LOOK = 2.0
"""Seconds after which all folders are looked at once more when NOTIFY announced one: while another is opened than the
one that changed, something may slip through."""
_COMPARE_PAUSE = 60.0
"""Seconds between two comparisons of all UIDs in a folder from which mail goes, where the server does not name it."""
_OVERFLOWS = 3
"""How often the server may stop to notify before it is not asked any more."""
_VALIDITY_ALARM = 5
_ONCE_TRIES = 15
_ONCE_LONGEST = 5.0
"""With `once` somebody waits: seconds that it pauses at most, and so it may try more often."""
_ONCE_FILING_TRIES = 5
_BYTES_A_DAY = "the provider's limit of bytes a day"
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

log = structlog.get_logger("maillinkd.imap")

_Parsing = Awaitable[Sequence[Parsed]] | None
T = TypeVar("T")


class State(StrEnum):
    """What a mailbox's task is doing."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    WATCHING = "watching"
    """Everything is read, the server says when more comes (NOTIFY, IDLE)."""
    POLLING = "polling"
    """Everything is read, the server is asked now and then."""
    WAITING = "waiting"
    """Something broke, or must wait (`waits_for`); `next_try` says when it is tried again."""
    REFUSED = "refused"
    """The login was refused."""
    PAUSED = "paused"
    """Mail cannot be filed (database, disk)."""
    DONE = "done"


@dataclass(frozen=True, slots=True)
class MailboxState:
    """What `status` shows of a mailbox. Times in UTC."""

    mailbox: str
    state: State
    since: datetime
    """When it came into this state."""
    folder: str = ""
    last_success: datetime | None = None
    """When it was last known to be up to date."""
    next_try: datetime | None = None
    waits_for: str = ""
    """While it watches, polls, or waits for the provider's limits: for what, in words for people."""
    next_look: datetime | None = None
    """While it watches or polls: when it looks by itself, at the latest. While it waits for the provider's limits it
    goes on watching."""
    last_error: str = ""
    """One line without secrets; stays until the next success."""
    missing_folders: tuple[str, ...] = ()
    """Configured and not on the server, or not to be opened."""
    filed: int = 0
    """Messages filed since the task began."""
    pending: int = 0
    """Messages known to be there and not yet filed, in the folder at hand."""
    first_sync: int = 0
    """Messages that first syncs have still to fetch, as far as they were counted."""
    traffic: Traffic = field(default_factory=Traffic, repr=False)
    """What came from the server, to be given to whoever follows the mailbox next."""


Report = Callable[[MailboxState], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What one pass did."""

    mailbox: str
    folders: tuple[str, ...]
    missing_folders: tuple[str, ...]
    filed: int
    gone: int
    audit: Audit | None = None
    """What the audit found, if the pass was one."""


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """What a pass would fetch from a folder."""

    folder: str
    new: int
    """Messages that came since the last look."""
    first: int
    """Messages that the first sync has still to fetch."""
    size: int
    """RFC822.SIZE of both together, bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    mailbox: str
    folders: tuple[FolderPlan, ...]
    missing_folders: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to stay away after the n-th failure in a row, in seconds."""

    first: float = 1.0
    longest: float = 300.0

    def delay(self, failures: int, wish: float | None = None) -> float:
        """Doubling, with jitter downwards so that many mailboxes do not come back together; not before `wish`."""
        full = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        return max(full * random.uniform(0.5, 1.0), wish or 0.0)  # noqa: S311 - no secret depends on it


@dataclass(frozen=True, slots=True)
class Backoffs:
    """For each kind of failure."""

    connection: Backoff = Backoff(1.0, 300.0)
    login: Backoff = Backoff(600.0, 3_600.0)
    """With jitter never under five minutes: servers lock accounts out."""
    ledger: Backoff = Backoff(1.0, 20.0)


async def follow(
    account: Account,
    ledger: Ledger,
    *,
    fields: Sequence[str] = FIELDS,
    report: Report | None = None,
    once: bool = False,
    audit: bool = False,
    deadlines: Deadlines | None = None,
    backoffs: Backoffs | None = None,
    traffic: Traffic | None = None,
) -> Summary:
    """Follows a mailbox until it is cancelled; with `once` until everything is read.

    With `audit` the one pass is an audit that fetches what is missing, and nothing else. Without `once` there is such
    an audit now and then (`Account.audit_interval`).

    `fields`: the header fields that are fetched where whole messages are not. Mail is handed to `ledger.file` in
    batches; one that raises TemporaryFailure is handed over again, later. Every change of state goes to `report`.
    `traffic`: what came from the server lately (`MailboxState.traffic`), which counts for `Account.bytes_a_day`.
    With `once` raises LoginRefused, NoPassword, Unreachable, TemporaryFailure or Refused when it cannot go on;
    without, it never gives up.
    """
    follower = _Follower(
        account, ledger, fields, report, once or audit, audit, deadlines or Deadlines(), backoffs or Backoffs()
    )
    return await follower.run(traffic or Traffic())


async def plan(account: Account, ledger: Ledger, *, deadlines: Deadlines | None = None) -> Plan:
    """What a pass would fetch; files nothing. Raises as `follow` with `once`."""
    connection = await connect(account, deadlines)
    try:
        return await _plan(connection, account, ledger)
    except ProtocolError as error:
        raise _garbled(account, error) from error
    finally:
        await connection.logout()


async def _plan(connection: Connection, account: Account, ledger: Ledger) -> Plan:
    resolved = resolve(account.folders, await connection.folders())
    missing = list(resolved.missing)
    planned = []
    for folder in resolved.folders:
        try:
            opened = await connection.examine(folder)
        except Refused:
            missing.append(folder.name)
            continue
        planned.append(await _plan_folder(connection, account, ledger, folder, opened))
    return Plan(account.name, tuple(planned), tuple(missing))


async def _plan_folder(
    connection: Connection, account: Account, ledger: Ledger, folder: Folder, opened: Opened
) -> FolderPlan:
    cursor = await starting(connection, account, ledger, folder, opened)
    new = sync.above(await connection.uid_search(sync.new_criteria(cursor)), cursor)
    chunks = await first_chunks(connection, account, ledger, folder, cursor, CHUNK)
    first = [uid for chunk in chunks for uid in chunk.uids]
    size = 0
    for chunk in (*chunks, *sync.upwards(new, CHUNK)):
        size += sum((await connection.fetch_sizes(chunk.uids)).values()) if chunk.uids else 0
    return FolderPlan(folder.name, len(new), len(first), size)


class _Follower:
    def __init__(
        self,
        account: Account,
        ledger: Ledger,
        fields: Sequence[str],
        report: Report | None,
        once: bool,
        audit: bool,
        deadlines: Deadlines,
        backoffs: Backoffs,
    ) -> None:
        self._account = account
        self._ledger = ledger
        self._fields = fields
        self._report = report
        self._once = once
        self._audits = audit
        self._deadlines = deadlines
        self._backoffs = backoffs
        self._log = log.bind(mailbox=account.name)
        self._loop = asyncio.get_running_loop()
        self._state = MailboxState(account.name, State.CONNECTING, _now())
        self._failures = 0
        self._refusals = 0
        self._gone = 0
        self._marks = account.expunged == "mark"
        self._names_gone = False
        """The server names the UIDs that go (QRESYNC)."""
        self._visited: dict[str, Opened] = {}
        """How each folder stood when it was last read."""
        self._first_syncs: dict[str, int] = {}
        """How many messages the first sync of each folder has still to fetch."""
        self._compared_at: dict[str, float] = {}
        self._due: dict[str, float] = {}
        """When every UID of a folder is to be compared, because mail went that the server did not name."""
        self._notified = False
        """The server speaks of all folders, not only of the one that is open."""
        self._notify_failed = False
        self._overflows = 0
        self._idle_failed = False
        self._waits_by = ""
        self._look_at = 0.0
        self._look_twice = False
        self._absent: tuple[str, ...] = ()
        self._unopened: dict[str, str] = {}
        self._validity_changes: dict[str, int] = {}
        self._trouble = Trouble()
        self._listed_at = 0.0
        self._looked_at = 0.0
        self._folders: tuple[Folder, ...] = ()
        self._audited: Audit | None = None
        self._connection: Connection | None = None
        self._budget = Budget(account.bytes_a_day)
        self._held: set[str] = set()
        """Folders that are to be gone on with once there is room for more bytes of the day."""
        self._room_at = _LONG_AGO
        """Until then no old mail is fetched."""
        self._over_budget = False
        """It was said that the bytes of the day are used up."""
        self._audit_at = self._loop.time() + _by_chance(0, min(_FIRST_AUDIT, account.audit_interval))

    # The life of the task

    async def run(self, traffic: Traffic) -> Summary:
        self._state = replace(self._state, traffic=traffic)
        while True:
            filed = self._state.filed
            try:
                await self._session()
            except asyncio.CancelledError:
                raise
            except (LoginRefused, NoPassword) as error:
                await self._refused(error)
            except (ImapError, ProtocolError) as error:
                self._failures = 1 if self._state.filed > filed else self._failures + 1
                await self._broken(error)
            except TemporaryFailure as error:
                if self._once:
                    raise
                self._failures += 1
                await self._wait(State.PAUSED, self._backoffs.ledger.delay(self._failures), str(error))
            except Exception as error:
                if self._once:
                    raise
                self._failures += 1
                self._log.exception("imap failed", failures=self._failures)
                await self._wait(State.WAITING, self._backoffs.connection.longest, f"{type(error).__name__}: {error}")
            else:
                if not self._once:
                    continue  # with a new token
                self._say(State.DONE, folder="")
                return Summary(
                    self._account.name,
                    tuple(self._visited),
                    self._state.missing_folders,
                    self._state.filed,
                    self._gone,
                    self._audited,
                )

    async def _refused(self, error: LoginRefused | NoPassword) -> None:
        if self._once:
            raise error
        self._refusals += 1
        delay = self._backoffs.login.delay(self._refusals, error.retry_after)
        self._log.error("imap login refused", reason=str(error), next_try_s=round(delay), refusals=self._refusals)
        await self._wait(State.REFUSED, delay, str(error))

    async def _broken(self, error: ImapError | ProtocolError) -> None:
        came_from_connecting = self._state.state is State.CONNECTING
        if self._once and (self._failures >= _ONCE_TRIES or (came_from_connecting and not self._visited)):
            raise error if isinstance(error, ImapError) else _garbled(self._account, error)
        wish = error.retry_after if isinstance(error, ImapError) else None
        if self._once and (wish or 0) > _ONCE_LONGEST:
            raise error
        delay = self._backoffs.connection.delay(self._failures, wish)
        if self._once:
            delay = min(delay, _ONCE_LONGEST)
        self._log.warning(
            "imap connection lost", reason=str(error), next_try_s=round(delay, 1), failures=self._failures
        )
        await self._wait(State.WAITING, delay, str(error))

    async def _wait(self, state: State, delay: float, error: str) -> None:
        self._say(state, last_error=error, next_try=_now() + timedelta(seconds=delay), folder="", waits_for="")
        await asyncio.sleep(delay)

    async def _session(self) -> None:
        self._say(State.CONNECTING, next_try=None, folder="")
        self._held.clear()
        self._connection = connection = await connect(self._account, self._deadlines)
        self._refusals = 0
        self._trouble.new_connection()
        can = {name.lower(): name in connection.capabilities for name in ("IDLE", "NOTIFY", "CONDSTORE", "QRESYNC")}
        self._log.info("imap connected", host=self._account.host, **can)
        if connection.server:
            self._log.debug("imap server", server=connection.server)
        try:
            self._names_gone = self._marks and await connection.enable_qresync()
            await self._list(connection)
            self._say(State.CATCHING_UP)
            if self._audits:
                self._audited = await self._audit(connection)
            else:
                await self._catch_up(connection, await self._unlike(connection, self._folders))
            self._looked_at = self._loop.time()
            if self._once and self._held:
                raise TemporaryFailure(f"{_BYTES_A_DAY} is reached; there is room again at {self._room_at:%F %T} UTC")
            if not self._once:
                await self._subscribe(connection)
            while not self._once and connection.fresh_for() > 0:
                await self._watch(connection)
                if self._loop.time() >= self._audit_at:
                    await self._audit(connection)
                    await self._catch_up(connection, self._folders)  # what came meanwhile
        finally:
            for alert in connection.alerts():
                self._log.warning("imap server says", alert=alert)
            await self._leave(connection)
            self._count()
            self._connection = None

    async def _leave(self, connection: Connection) -> None:
        """Says good-bye if it can be done soon: a server counts connections that merely broke for a while."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self._deadlines.logout):
                await connection.logout()
        connection.abort()

    async def _list(self, connection: Connection) -> None:
        """Finds the configured folders among the server's."""
        resolved = resolve(self._account.folders, await connection.folders())
        if resolved.missing != self._absent and resolved.missing:
            self._log.warning("imap folders missing", folders=resolved.missing)
        self._folders, self._absent = resolved.folders, resolved.missing
        self._unopened.clear()
        self._listed_at = self._loop.time()
        self._say(self._state.state, missing_folders=self._absent)
        if not self._folders:
            raise ImapError("none of the configured folders is on the server")

    # Catching up

    async def _catch_up(self, connection: Connection, folders: Sequence[Folder]) -> None:
        """Reads folders, each for a while in turn, looking in between for new mail in those that are done."""
        waiting, done = list(folders), [folder for folder in self._folders if folder not in folders]
        while waiting:
            folder = waiting.pop(0)
            if await self._visit(connection, folder):
                done.append(folder)
            else:
                waiting.append(folder)
                waiting += await self._look_around(connection, done)
                done = [folder for folder in done if folder not in waiting]
        self._up_to_date()

    def _allows(self, octets: int, old: bool) -> bool:
        """Whether so many bytes may be fetched today."""
        self._count()
        if old and _now() < self._room_at:
            return False
        return self._budget.allows(self._state.traffic, octets, _now(), old=old)

    def _hold(self, octets: int, old: bool) -> None:
        """Notes when there will be room for so many bytes; says so, once."""
        traffic = self._state.traffic
        if not old or _now() >= self._room_at:
            self._room_at = self._budget.room_at(traffic, octets, _now(), old=old)
        if not self._over_budget:
            self._over_budget = True
            self._log.warning(
                "imap waits for the limit of bytes a day",
                received=traffic.total(_now()),
                bytes_a_day=self._account.bytes_a_day,
                next_try=f"{self._room_at:%FT%TZ}",
            )

    def _within_budget(self) -> None:
        """There was room for all that was to be fetched."""
        if self._over_budget and _now() >= self._room_at:
            self._over_budget = False
            self._log.info("imap goes on below the limit of bytes a day", received=self._state.traffic.total(_now()))

    async def _go_on(self, connection: Connection) -> None:
        """Reads what had to wait for the bytes of another day."""
        folders = [folder for folder in self._folders if folder.name in self._held]
        self._held.clear()
        self._say(State.CATCHING_UP, next_try=None, pending=0)
        await self._catch_up(connection, folders)

    def _count(self) -> None:
        """Adds up what came from the server."""
        if self._connection is not None and (received := self._connection.take_received()):
            self._state = replace(self._state, traffic=self._state.traffic.plus(received, _now()))

    async def _look_around(self, connection: Connection, folders: Sequence[Folder]) -> list[Folder]:
        """Asks how folders stand and reads those that changed; gives back those that are not read to the end."""
        unfinished = []
        known = [folder for folder in folders if folder.name not in self._unopened]
        found = await connection.statuses(known) if len(known) > 1 else {}
        for folder in known:
            stands = found.get(folder.name) or await self._status(connection, folder)
            if stands is None or resync.same(stands, self._visited.get(folder.name)):
                continue
            if not await self._visit(connection, folder):
                unfinished.append(folder)
        return unfinished

    async def _unlike(self, connection: Connection, folders: Sequence[Folder]) -> list[Folder]:
        """The folders that are not, or may not be, as they were when they were last read to the end."""
        stored = {folder.name: await self._ledger.cursor(self._account.name, folder.name) for folder in folders}
        closed = [folder for folder in folders if _has_modseq(stored[folder.name])]
        found = await connection.statuses(closed)
        unlike = []
        for folder in folders:
            cursor = stored[folder.name]
            stands = None
            if cursor is not None and folder in closed:
                stands = found.get(folder.name) or await self._status(connection, folder)
            if cursor is not None and stands is not None and self._is_unchanged(cursor, stands):
                self._visited[folder.name] = stands
            else:
                unlike.append(folder)
        return unlike

    def _is_unchanged(self, stored: FolderCursor, opened: Opened) -> bool:
        if stored.uidvalidity != opened.uidvalidity:
            return False
        going_on = sync.starting(stored, opened, 0, self._account.since)
        return resync.unchanged(stored, going_on, opened, mark=self._marks, now=_now())

    async def _status(self, connection: Connection, folder: Folder) -> Opened | None:
        """How a folder stands; None if the server does not say so."""
        try:
            return await connection.status(folder)
        except Refused as error:
            if error.transient:
                raise
            self._cannot_open(folder, error)
            return None

    async def _visit(self, connection: Connection, folder: Folder) -> bool:
        """Opens a folder and reads it; False if it is to be gone on with as soon as others were looked at."""
        stored = await self._ledger.cursor(self._account.name, folder.name)
        since = resync.since(stored) if self._names_gone else None
        try:
            opened = await connection.examine(folder, since)
        except Refused as error:
            if error.transient:
                raise
            self._cannot_open(folder, error)
            return True
        self._say(self._state.state, folder=folder.name)
        self._note_validity(folder, stored, opened)
        self._visited[folder.name] = opened
        if stored is not None and self._is_unchanged(stored, opened):
            return True
        known = stored is not None and stored.uidvalidity == opened.uidvalidity
        before = stored.stand if stored is not None and known else None
        named = since is not None and since[0] == opened.uidvalidity and opened.highestmodseq is not None
        cursor = await starting(connection, self._account, self._ledger, folder, opened)
        compared = known and resync.compares(before, mark=self._marks, now=_now())
        reading = await self._read(connection, folder, stored, cursor, compare=compared)
        if not reading.finished:
            return reading.held is not None
        if before is not None and not compared:
            compared = resync.unexplained(
                before, opened, found=reading.found, gone=reading.gone, counts_gone=self._marks and not named
            )
            if compared and not await self._see(connection, folder, compare=True):
                return True
        if compared:
            self._compared(folder)
        await self._settle(folder, before, opened, anew=compared or not known)
        return True

    async def _settle(self, folder: Folder, before: Stand | None, opened: Opened, *, anew: bool) -> None:
        """Remembers how the folder stood that was read to the end; `anew`: every UID was looked at."""
        if self._trouble.withholds(folder.name):
            return  # so that it is asked for again
        compared_at = before.compared_at if before is not None and not anew else _now()
        stand = resync.stand(opened, gone_marked=self._marks, compared_at=compared_at)
        if stand != before:
            await self._ledger.settled(self._account.name, folder.name, stand)

    def _cannot_open(self, folder: Folder, error: Refused) -> None:
        if folder.name not in self._unopened:
            self._log.warning("imap folder cannot be opened", folder=folder.name, reason=str(error))
        self._unopened[folder.name] = str(error)
        self._say(self._state.state, missing_folders=(*self._absent, *self._unopened), last_error=str(error))

    def _note_validity(self, folder: Folder, stored: FolderCursor | None, opened: Opened) -> None:
        if stored is None or stored.uidvalidity == opened.uidvalidity:
            return
        self._trouble.renumbered(folder.name)
        changes = self._validity_changes[folder.name] = self._validity_changes.get(folder.name, 0) + 1
        say = self._log.error if changes > _VALIDITY_ALARM else self._log.warning
        say(
            "imap uidvalidity changed",
            folder=folder.name,
            old=stored.uidvalidity,
            new=opened.uidvalidity,
            times=changes,
        )

    async def _read(
        self,
        connection: Connection,
        folder: Folder,
        stored: FolderCursor | None,
        cursor: FolderCursor,
        *,
        compare: bool,
    ) -> Reading:
        """Fetches ahead and files behind. Gives back what it came to."""
        reading = self._reading(connection)
        async with _ahead(self._begun(reading.batches(folder, cursor, compare=compare))) as batches:
            async for brought, parsing in batches:
                cursor = sync.moved(cursor, brought.chunk) if brought.chunk else cursor
                if brought.messages or brought.gone or cursor != stored:
                    await self._file(folder, cursor, brought, parsing)
                    stored = cursor
                reading.filed(brought)
                if brought.chunk is not None and brought.chunk.direction is Direction.FIRST:
                    reading.first -= len(brought.chunk.uids)
                    self._first_syncs[folder.name] = 0 if cursor.first_sync_done else reading.first
                    self._say(self._state.state, first_sync=sum(self._first_syncs.values()))
                    self._within_budget()
        if reading.held:
            self._hold(*reading.held)
            self._held.add(folder.name)
            if cursor != stored:  # so that what comes from now on is new mail
                await self._file(folder, cursor, Brought(None))
        return reading

    def _reading(self, connection: Connection) -> Reading:
        return Reading(
            connection, self._account, self._ledger, self._fields, self._trouble, self._expect, self._allows
        )

    def _expect(self, messages: int) -> None:
        if messages:
            self._say(self._state.state, pending=self._state.pending + messages)

    async def _begun(self, batches: AsyncIterator[Brought]) -> AsyncIterator[tuple[Brought, _Parsing]]:
        """The batches as they come; each is parsed while those before it are filed."""
        async for brought in batches:
            yield brought, self._ledger.begin_reading(brought.messages) if brought.messages else None

    async def _file(self, folder: Folder, cursor: FolderCursor, brought: Brought, parsing: _Parsing = None) -> None:
        """Hands a batch over until it is taken."""
        first = brought.chunk is not None and brought.chunk.direction is Direction.FIRST
        batch = FolderBatch(
            self._account.name, folder.name, cursor, brought.messages, brought.gone, first_sync=first, reading=parsing
        )
        state = self._state.state
        failures = 0
        while True:
            try:
                await self._ledger.file(batch)
                break
            except TemporaryFailure as failure:
                failures += 1
                if self._once and failures >= _ONCE_FILING_TRIES:
                    raise
                delay = self._backoffs.ledger.delay(failures)
                self._log.warning("imap paused", folder=folder.name, reason=str(failure), next_try_s=round(delay, 1))
                self._say(State.PAUSED, last_error=str(failure), next_try=_now() + timedelta(seconds=delay))
                await asyncio.sleep(delay)
        self._gone += len(brought.gone)
        handled = len(brought.messages) + len(brought.gone)
        self._say(
            state,
            filed=self._state.filed + len(brought.messages),
            pending=max(0, self._state.pending - handled),
            next_try=None,
        )

    # Auditing

    async def _audit(self, connection: Connection) -> Audit:
        """Compares all folders with the ledger, fetches what is missing, and says in one line what came of it."""
        self._audit_at = self._loop.time() + self._account.audit_interval * _by_chance(0.9, 1.1)
        found = []
        for folder in self._folders:
            try:
                opened = await connection.examine(folder)
            except Refused as error:
                if error.transient:
                    raise
                self._cannot_open(folder, error)
                continue
            self._say(self._state.state, folder=folder.name)
            found.append(await self._audit_folder(connection, folder, opened))
        audit = Audit(self._account.name, tuple(found), self._absent, tuple(self._unopened))
        say = self._log.warning if audit.missing or audit.repaired else self._log.info
        say("imap audited", folders=len(found), missing=audit.missing, repaired=audit.repaired)
        return audit

    async def _audit_folder(self, connection: Connection, folder: Folder, opened: Opened) -> FolderAudit:
        found = await audit_folder(connection, self._account, self._ledger, folder, opened)
        if missing := found.tally.missing_count:
            await self._fetch_missing(connection, folder, found)
            found = await audit_folder(connection, self._account, self._ledger, folder, opened)
            found = replace(found, repaired=max(0, missing - found.tally.missing_count))
        await self._ledger.note_audit(self._account.name, folder.name, found.tally.missing_count)
        return found

    async def _fetch_missing(self, connection: Connection, folder: Folder, found: FolderAudit) -> None:
        cursor = await self._ledger.cursor(self._account.name, folder.name)
        if cursor is None or cursor.uidvalidity != found.uidvalidity:
            return  # all of it is to be read anew
        reading = self._reading(connection)
        async with _ahead(reading.missing(folder, tuple(uids_of(found.tally.missing)))) as batches:
            async for brought in batches:
                await self._file(folder, cursor, brought)
                reading.filed(brought)
        if reading.held:
            self._hold(*reading.held)
            self._audit_at = self._loop_time_of(self._room_at)

    # Watching

    async def _subscribe(self, connection: Connection) -> None:
        """Asks for news of all folders on this connection (NOTIFY, which IDLE carries), where that can be had."""
        self._notified = False
        folders = [folder for folder in self._folders if folder.name not in self._unopened]
        globs = any(wild in name for name in self._account.folders for wild in "*%?")
        if (
            self._notify_failed
            or not {"NOTIFY", "IDLE"} <= connection.capabilities
            or (len(folders) < 2 and not globs)
        ):
            return
        try:
            await connection.notify(folders, new_folders=globs)
        except Refused as error:
            self._notify_failed = True
            self._log.warning("imap notify refused; watching by IDLE", reason=str(error))
            return
        self._notified = True
        self._look_at = self._loop.time()  # for what came before the server took note
        self._look_twice = True  # Dovecot 2.3 takes a second until it does

    async def _watch(self, connection: Connection) -> None:
        """Waits for something to happen, then reads it."""
        watched, others = self._watched()
        if connection.open != watched and not await self._visit(connection, watched):
            await self._catch_up(connection, [watched])
        if connection.open != watched:
            return  # it cannot be opened any more: the next one is watched
        if await self._idle(connection, watched, others):
            await self._take_news(connection, watched)
        else:
            await self._pause(watched)
            await self._visit(connection, watched)
        self._up_to_date()
        if self._held and _now() >= self._room_at:
            await self._go_on(connection)
        if self._is_time_to_look():
            await self._look_at_others(connection, watched)

    async def _take_news(self, connection: Connection, watched: Folder) -> None:
        """Reads what the server said by itself."""
        announced = connection.take_announced()
        if connection.changed or watched.wire in announced or self._is_due(watched):
            await self._see(connection, watched, compare=self._takes_comparison(connection, watched))
        if connection.take_folders_changed():
            self._listed_at = -_RELIST
        if connection.take_overflowed():
            self._notify_failed = self._overflows >= _OVERFLOWS
            self._overflows += 1
            self._log.warning("imap notify overflowed", gives_up=self._notify_failed)
            await self._subscribe(connection)
            self._look_at = self._looked_at = float("-inf")  # for what it did not say
        others = [folder for folder in self._folders if folder.wire in announced and folder != watched]
        if others:
            await self._catch_up(connection, others)
            self._look_at = self._loop.time() + _SECOND_LOOK

    def _is_time_to_look(self) -> bool:
        now = self._loop.time()
        if self._notified:
            return now >= min(self._look_at, self._listed_at + _RELIST)
        return now - self._looked_at >= min(_LOOK_AROUND, self._account.poll_interval)

    async def _look_at_others(self, connection: Connection, watched: Folder) -> None:
        if self._loop.time() - self._listed_at > _RELIST:
            before = self._folders
            await self._list(connection)
            if self._folders != before:
                await self._subscribe(connection)
        others = [folder for folder in self._folders if folder != watched]
        await self._catch_up(connection, await self._look_around(connection, others))
        self._looked_at = self._loop.time()
        self._look_at = self._loop.time() + (_SECOND_LOOK if self._look_twice else _RELIST)
        self._look_twice = False

    def _watched(self) -> tuple[Folder, list[Folder]]:
        """The first folder that can be opened, and the others."""
        folders = [folder for folder in self._folders if folder.name not in self._unopened]
        if not folders:
            raise ImapError("none of the configured folders can be opened")
        return folders[0], folders[1:]

    async def _idle(self, connection: Connection, watched: Folder, others: Sequence[Folder]) -> bool:
        """Waits for the server to say something. False, at once, where it does not offer IDLE or refuses it."""
        if "IDLE" not in connection.capabilities or self._idle_failed:
            return False
        next_look = self._next_look(others)
        self._wait_for(watched, others, next_look)
        await connection.noop()  # some servers do not say in IDLE what came before it (pymap)
        if connection.news:
            return True
        end = min(next_look, self._due.get(watched.name, next_look))
        if self._held:
            end = min(end, self._loop_time_of(self._room_at))
        try:
            await connection.idle(max(0.0, end - self._loop.time()))
        except Refused as error:
            self._idle_failed = True
            self._log.warning("imap idle refused; polling", reason=str(error), every_s=self._account.poll_interval)
            return False
        return True

    def _next_look(self, others: Sequence[Folder]) -> float:
        """When the folders are asked for that the server does not speak of, or may have passed over."""
        if self._notified:
            return min(self._look_at, self._listed_at + _RELIST)
        return self._looked_at + self._account.poll_interval if others else self._listed_at + _RELIST

    def _wait_for(self, watched: Folder, others: Sequence[Folder], next_look: float) -> None:
        if self._notified:
            by = f"NOTIFY: {1 + len(others)} folders"
        elif others:
            by = f"IDLE: {watched.name}; {len(others)} more every {self._account.poll_interval:g} s"
        else:
            by = f"IDLE: {watched.name}"
        if by != self._waits_by:
            self._waits_by = by
            self._log.info("imap watching", by=by)
        self._say_resting(State.WATCHING, watched, by, self._date_of(next_look))

    async def _pause(self, watched: Folder) -> None:
        """Until the next look, where the server says nothing by itself."""
        seconds = self._account.poll_interval
        self._say_resting(State.POLLING, watched, "the next look", _now() + timedelta(seconds=seconds))
        await asyncio.sleep(seconds)

    def _say_resting(self, state: State, watched: Folder, waits_for: str, next_look: datetime) -> None:
        if self._held:
            state, waits_for = State.WAITING, _BYTES_A_DAY
        next_try = self._room_at if self._held else None
        self._say(state, folder=watched.name, waits_for=waits_for, next_look=next_look, next_try=next_try)

    def _loop_time_of(self, moment: datetime) -> float:
        return self._loop.time() + (moment - _now()).total_seconds()

    def _date_of(self, moment: float) -> datetime:
        """A time of the loop's clock."""
        return _now() + timedelta(seconds=max(0.0, moment - self._loop.time()))

    async def _see(self, connection: Connection, folder: Folder, *, compare: bool = False) -> bool:
        """Reads what the server has just announced in the open folder; with `compare` looks at every UID.

        False if it is to be gone on with later, which is noted.
        """
        stored = await self._ledger.cursor(self._account.name, folder.name)
        if stored is None:
            finished = await self._visit(connection, folder)
        else:
            finished = (await self._read(connection, folder, stored, stored, compare=compare)).finished
        if not finished:
            self._held.add(folder.name)
        return finished

    def _is_due(self, folder: Folder) -> bool:
        return self._loop.time() >= self._due.get(folder.name, float("inf"))

    def _takes_comparison(self, connection: Connection, folder: Folder) -> bool:
        """Whether to compare every UID now, for mail went and the server did not say which; soon, if not now."""
        if connection.take_expunged() and self._marks:
            last = self._compared_at.get(folder.name, -_COMPARE_PAUSE)
            self._due.setdefault(folder.name, last + _COMPARE_PAUSE)
        if not self._is_due(folder):
            return False
        self._compared(folder)
        return True

    def _compared(self, folder: Folder) -> None:
        self._due.pop(folder.name, None)
        self._compared_at[folder.name] = self._loop.time()

    def _up_to_date(self) -> None:
        self._failures = 0
        error = next(iter(self._unopened.values()), "")
        if self._held:
            self._say(self._state.state, last_error=error)
        else:
            self._within_budget()
            self._say(self._state.state, last_success=_now(), last_error=error, pending=0)

    def _say(self, state: State, **changes: object) -> None:
        self._count()
        if state is not self._state.state:
            changes = {"since": _now(), "waits_for": "", "next_look": None} | changes
        self._state = replace(self._state, state=state, **changes)  # type: ignore[arg-type] # names are those of fields
        if self._report is not None:
            self._report(self._state)


def _garbled(account: Account, error: ProtocolError) -> Unreachable:
    return Unreachable(f"{account.host} does not speak IMAP as it should: {error}")


def _has_modseq(stored: FolderCursor | None) -> bool:
    return stored is not None and stored.stand is not None and stored.stand.modseq is not None


def _by_chance(least: float, most: float) -> float:
    return random.uniform(least, most)  # noqa: S311 - no secret depends on it


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


@asynccontextmanager
async def _ahead(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """What `source` gives, with one waiting and one on its way while the one at hand is dealt with."""
    queue: asyncio.Queue[T | _End] = asyncio.Queue(maxsize=1)

    async def pump() -> None:
        error = None
        try:
            async for item in source:
                await queue.put(item)
        except Exception as caught:  # noqa: BLE001 - handed over to whoever takes
            error = caught
        await queue.put(_End(error))

    async def take() -> AsyncIterator[T]:
        while True:
            item = await queue.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return

    task = asyncio.create_task(pump())
    try:
        yield take()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
