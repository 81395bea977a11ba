"""One task a mailbox: connect, catch up, watch, and when something breaks, back off and begin again.

The task owns no truth. Where each folder stands is in the ledger, and what a FETCH brought is handed to the ledger
together with the cursor that is right once it is filed. So the task may die anywhere, and the next one goes on where
the last transaction stopped.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TypeVar

import structlog

from maillinkd.imap import sync
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import ImapError, LoginRefused, NoPassword, Refused, Unreachable
from maillinkd.imap.folders import Folder, resolve
from maillinkd.imap.reader import CHUNK, Brought, Reading, Trouble, first_chunks, starting
from maillinkd.imap.response import ProtocolError
from maillinkd.imap.sync import Direction, Opened
from maillinkd.mail.delivery import FolderBatch, FolderCursor, Ledger, TemporaryFailure
from maillinkd.mail.message import FIELDS

_RELIST = 900.0
"""Seconds after which the server's folders are listed again, for those that a glob now finds."""
_LOOK_AROUND = 5.0
"""When mail came to the watched folder, the others are looked at too, but not more often than so many seconds."""
_VALIDITY_ALARM = 5
_ONCE_TRIES = 15
_ONCE_LONGEST = 5.0
"""With `once` somebody waits: seconds that it pauses at most, and so it may try more often."""
_ONCE_FILING_TRIES = 5

log = structlog.get_logger("maillinkd.imap")

T = TypeVar("T")


class State(StrEnum):
    """What a mailbox's task is doing."""

    CONNECTING = "connecting"
    CATCHING_UP = "catching_up"
    WATCHING = "watching"
    """Everything is read, the server says when more comes (IDLE)."""
    POLLING = "polling"
    """Everything is read, the server is asked now and then."""
    WAITING = "waiting"
    """Something broke; `next_try` says when it is tried again."""
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
    last_error: str = ""
    """One line without secrets; stays until the next success."""
    missing_folders: tuple[str, ...] = ()
    """Configured and not on the server, or not to be opened."""
    filed: int = 0
    """Messages filed since the task began."""
    pending: int = 0
    """Messages known to be there and not yet filed, in the folder at hand."""


Report = Callable[[MailboxState], None]


@dataclass(frozen=True, slots=True)
class Summary:
    """What one pass did."""

    mailbox: str
    folders: tuple[str, ...]
    missing_folders: tuple[str, ...]
    filed: int
    gone: int


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
    deadlines: Deadlines | None = None,
    backoffs: Backoffs | None = None,
) -> Summary:
    """Follows a mailbox until it is cancelled; with `once` until everything is read.

    `fields`: the header fields that are fetched where whole messages are not. Mail is handed to `ledger.file` in
    batches; one that raises TemporaryFailure is handed over again, later. Every change of state goes to `report`.
    With `once` raises LoginRefused, NoPassword, Unreachable, TemporaryFailure or Refused when it cannot go on;
    without, it never gives up.
    """
    follower = _Follower(account, ledger, fields, report, once, deadlines or Deadlines(), backoffs or Backoffs())
    return await follower.run()


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
        deadlines: Deadlines,
        backoffs: Backoffs,
    ) -> None:
        self._account = account
        self._ledger = ledger
        self._fields = fields
        self._report = report
        self._once = once
        self._deadlines = deadlines
        self._backoffs = backoffs
        self._log = log.bind(mailbox=account.name)
        self._loop = asyncio.get_running_loop()
        self._state = MailboxState(account.name, State.CONNECTING, _now())
        self._failures = 0
        self._refusals = 0
        self._gone = 0
        self._visited: dict[str, Opened] = {}
        """How each folder stood when it was last read."""
        self._absent: tuple[str, ...] = ()
        self._unopened: dict[str, str] = {}
        self._validity_changes: dict[str, int] = {}
        self._trouble = Trouble()
        self._listed_at = 0.0
        self._looked_at = 0.0
        self._folders: tuple[Folder, ...] = ()

    # The life of the task

    async def run(self) -> Summary:
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
                self._say(State.DONE, folder="")
                return Summary(
                    self._account.name,
                    tuple(self._visited),
                    self._state.missing_folders,
                    self._state.filed,
                    self._gone,
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
        delay = self._backoffs.connection.delay(self._failures, wish)
        if self._once:
            delay = min(delay, _ONCE_LONGEST)
        self._log.warning(
            "imap connection lost", reason=str(error), next_try_s=round(delay, 1), failures=self._failures
        )
        await self._wait(State.WAITING, delay, str(error))

    async def _wait(self, state: State, delay: float, error: str) -> None:
        self._say(state, last_error=error, next_try=_now() + timedelta(seconds=delay), folder="")
        await asyncio.sleep(delay)

    async def _session(self) -> None:
        self._say(State.CONNECTING, next_try=None, folder="")
        connection = await connect(self._account, self._deadlines)
        self._refusals = 0
        self._trouble.new_connection()
        self._log.info("imap connected", host=self._account.host, idle="IDLE" in connection.capabilities)
        try:
            await self._list(connection)
            self._say(State.CATCHING_UP)
            await self._catch_up(connection, self._folders)
            self._looked_at = self._loop.time()
            while not self._once:
                await self._watch(connection)
            await connection.logout()
        finally:
            for alert in connection.alerts():
                self._log.warning("imap server says", alert=alert)
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

    async def _look_around(self, connection: Connection, folders: Sequence[Folder]) -> list[Folder]:
        """Asks how folders stand and reads those that changed; gives back those that are not read to the end."""
        unfinished = []
        for folder in folders:
            if folder.name in self._unopened:
                continue
            try:
                stands = await connection.status(folder)
            except Refused as error:
                self._cannot_open(folder, error)
                continue
            if stands != self._visited.get(folder.name) and not await self._visit(connection, folder):
                unfinished.append(folder)
        return unfinished

    async def _visit(self, connection: Connection, folder: Folder) -> bool:
        """Opens a folder and reads it; False if its first sync is to be gone on with later."""
        try:
            opened = await connection.examine(folder)
        except Refused as error:
            if error.transient:
                raise
            self._cannot_open(folder, error)
            return True
        self._say(self._state.state, folder=folder.name)
        self._visited[folder.name] = opened
        stored = await self._ledger.cursor(self._account.name, folder.name)
        self._note_validity(folder, stored, opened)
        cursor = await starting(connection, self._account, self._ledger, folder, opened)
        return await self._read(connection, folder, stored, cursor, compare=True)

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
    ) -> bool:
        """Fetches ahead and files behind. False if there is more of a first sync than fits into a slice."""
        reading = Reading(connection, self._account, self._ledger, self._fields, self._trouble, self._expect)
        async with _ahead(reading.batches(folder, cursor, compare=compare)) as batches:
            async for brought in batches:
                cursor = sync.moved(cursor, brought.chunk) if brought.chunk else cursor
                if brought.messages or brought.gone or cursor != stored:
                    await self._file(folder, cursor, brought)
                    stored = cursor
        return reading.finished

    def _expect(self, messages: int) -> None:
        if messages:
            self._say(self._state.state, pending=self._state.pending + messages)

    async def _file(self, folder: Folder, cursor: FolderCursor, brought: Brought) -> None:
        """Hands a batch over until it is taken."""
        first = brought.chunk is not None and brought.chunk.direction is Direction.FIRST
        batch = FolderBatch(self._account.name, folder.name, cursor, brought.messages, brought.gone, first_sync=first)
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

    # Watching

    async def _watch(self, connection: Connection) -> None:
        """Waits for something to happen, then reads it."""
        watched, others = self._watched()
        if connection.open != watched and not await self._visit(connection, watched):
            await self._catch_up(connection, [watched])
        if connection.open != watched:
            return  # it cannot be opened any more: the next one is watched
        next_look = self._looked_at + self._account.poll_interval if others else self._listed_at + _RELIST
        if await self._idle(connection, next_look):
            if connection.changed:
                await self._see(connection, watched)
        else:
            self._say(State.POLLING, folder=watched.name)
            await asyncio.sleep(self._account.poll_interval)
            await self._visit(connection, watched)
        self._up_to_date()
        if self._loop.time() - self._looked_at >= min(_LOOK_AROUND, self._account.poll_interval):
            await self._look_at_others(connection, watched)

    async def _look_at_others(self, connection: Connection, watched: Folder) -> None:
        if self._loop.time() - self._listed_at > _RELIST:
            await self._list(connection)
        others = [folder for folder in self._folders if folder != watched]
        await self._catch_up(connection, await self._look_around(connection, others))
        self._looked_at = self._loop.time()

    def _watched(self) -> tuple[Folder, list[Folder]]:
        """The first folder that can be opened, and the others."""
        folders = [folder for folder in self._folders if folder.name not in self._unopened]
        if not folders:
            raise ImapError("none of the configured folders can be opened")
        return folders[0], folders[1:]

    async def _idle(self, connection: Connection, until: float) -> bool:
        """Waits for the server to say something. False, at once, where it does not offer IDLE or refuses it."""
        if "IDLE" not in connection.capabilities:
            return False
        self._say(State.WATCHING, folder=connection.open.name if connection.open else "")
        longest = max(0.0, until - self._loop.time())
        await connection.noop()  # some servers do not say in IDLE what came before it (pymap)
        if connection.changed:
            return True
        try:
            await connection.idle(longest)
        except Refused as error:
            self._log.warning("imap idle refused", reason=str(error))
            return False
        return True

    async def _see(self, connection: Connection, folder: Folder) -> None:
        """Reads what the server has just announced in the open folder."""
        stored = await self._ledger.cursor(self._account.name, folder.name)
        if stored is None:
            await self._visit(connection, folder)
        else:
            await self._read(connection, folder, stored, stored, compare=False)

    def _up_to_date(self) -> None:
        self._failures = 0
        error = next(iter(self._unopened.values()), "")
        self._say(self._state.state, last_success=_now(), last_error=error, pending=0)

    def _say(self, state: State, **changes: object) -> None:
        if state is not self._state.state:
            changes["since"] = _now()
        self._state = replace(self._state, state=state, **changes)  # type: ignore[arg-type] # names are those of fields
        if self._report is not None:
            self._report(self._state)


def _garbled(account: Account, error: ProtocolError) -> Unreachable:
    return Unreachable(f"{account.host} does not speak IMAP as it should: {error}")


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
