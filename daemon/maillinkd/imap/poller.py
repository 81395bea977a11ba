"""One task a mailbox: connect, catch up, watch, and when something breaks, back off and begin again.

The task owns no truth. Where each folder stands is in the ledger, and what a FETCH brought is handed to the ledger
together with the cursor that is right once it is filed. So the task may die anywhere, and the next one goes on where
the last transaction stopped.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial

import structlog

from maillinkd.imap import sync
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.ahead import ahead
from maillinkd.imap.audit import Audit, FolderAudit, audit_folder
from maillinkd.imap.backoff import Backoffs, by_chance
from maillinkd.imap.budget import Allowance, Traffic
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import ImapError, LoginRefused, NoPassword, Refused, garbled
from maillinkd.imap.folders import Folder
from maillinkd.imap.reader import CHUNK, WINDOW, Brought, Reading, Trouble
from maillinkd.imap.response import ProtocolError
from maillinkd.imap.roster import Roster
from maillinkd.imap.state import MailboxState, Report, State
from maillinkd.imap.sync import Direction, Opened
from maillinkd.imap.tally import uids_of
from maillinkd.imap.visits import Visits
from maillinkd.imap.watch import Watch
from maillinkd.mail.delivery import FolderBatch, FolderCursor, Ledger, Parsed, TemporaryFailure
from maillinkd.mail.message import FIELDS

_FIRST_AUDIT = 3_600.0
"""The first audit comes by chance within so many seconds, so that not all mailboxes are audited together."""
_ONCE_TRIES = 15
_ONCE_LONGEST = 5.0
"""With `once` somebody waits: seconds that it pauses at most, and so it may try more often."""
_ONCE_FILING_TRIES = 5
_TOGETHER_BYTES = 4 * 1024 * 1024
"""Bytes of packed messages that are filed together: several FETCHes brought them."""
_BYTES_A_DAY = "the provider's limit of bytes a day"

log = structlog.get_logger("maillinkd.imap")

_Parsing = asyncio.Future[Sequence[Parsed]] | None
_Coming = tuple[Brought, _Parsing]


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
    allowance = Allowance(account.bytes_a_day, traffic or Traffic())
    follower = _Follower(
        account,
        ledger,
        fields,
        report,
        once or audit,
        audit,
        deadlines or Deadlines(),
        backoffs or Backoffs(),
        allowance,
    )
    return await follower.run()


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
        allowance: Allowance,
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
        self._state = MailboxState(account.name, State.CONNECTING, _now(), traffic=allowance.traffic)
        self._failures = 0
        self._refusals = 0
        self._gone = 0
        self._first_syncs: dict[str, int] = {}
        """How many messages the first sync of each folder has still to fetch."""
        self._roster = Roster(account.folders, self._log)
        self._watch = Watch(account.folders, account.poll_interval, self._log)
        self._allowance = allowance
        self._trouble = Trouble()
        self._visits = Visits(
            account, ledger, self._roster, self._watch, allowance, self._trouble, self._read, self._tell
        )
        self._audited: Audit | None = None
        self._audit_at = self._loop.time() + by_chance(0, min(_FIRST_AUDIT, account.audit_interval))
        self._connection: Connection | None = None

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
                if not self._once:
                    continue  # with a new token
                self._say(State.DONE, folder="")
                return Summary(
                    self._account.name,
                    tuple(self._roster.visited),
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
        if self._once and (self._failures >= _ONCE_TRIES or (came_from_connecting and not self._roster.visited)):
            raise error if isinstance(error, ImapError) else garbled(self._account.host, error)
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
        self._allowance.held.clear()
        self._connection = connection = await connect(self._account, self._deadlines)
        self._refusals = 0
        can = {name.lower(): name in connection.capabilities for name in ("IDLE", "NOTIFY", "CONDSTORE", "QRESYNC")}
        self._log.info("imap connected", host=self._account.host, **can)
        if connection.server:
            self._log.debug("imap server", server=connection.server)
        try:
            await self._visits.begin(connection)
            await self._list(connection)
            self._say(State.CATCHING_UP)
            if self._audits:
                self._audited = await self._audit(connection)
            else:
                await self._catch_up(connection, await self._visits.unlike(connection))
            self._watch.looked()
            if self._once and self._allowance.held:
                room_at = f"{self._allowance.room_at:%F %T} UTC"
                raise TemporaryFailure(f"{_BYTES_A_DAY} is reached; there is room again at {room_at}")
            if not self._once:
                await self._watch.subscribe(connection, self._roster.openable)
            while not self._once and connection.fresh_for() > 0:
                await self._look_out(connection)
                if self._loop.time() >= self._audit_at:
                    await self._audit(connection)
                    await self._catch_up(connection, self._roster.folders)  # what came meanwhile
        finally:
            for alert in connection.news.take_alerts():
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
        await self._roster.find(connection)
        self._watch.listed()
        self._tell(missing_folders=self._roster.missing)
        if not self._roster.folders:
            raise ImapError("none of the configured folders is on the server")

    # Catching up

    async def _catch_up(self, connection: Connection, folders: Sequence[Folder]) -> None:
        await self._visits.catch_up(connection, folders)
        self._up_to_date()

    def _allows(self, octets: int, old: bool) -> bool:
        """Whether so many bytes may be fetched today."""
        self._count()
        return self._allowance.allows(octets, _now(), old=old)

    def _hold(self, octets: int, old: bool) -> None:
        """So many bytes have to wait for another day."""
        if self._allowance.refuse(octets, _now(), old=old):
            self._log.warning(
                "imap waits for the limit of bytes a day",
                received=self._allowance.traffic.total(_now()),
                bytes_a_day=self._account.bytes_a_day,
                next_try=f"{self._allowance.room_at:%FT%TZ}",
            )

    def _within_budget(self) -> None:
        """There was room for all that was to be fetched."""
        if self._allowance.suffices(_now()):
            received = self._allowance.traffic.total(_now())
            self._log.info("imap goes on below the limit of bytes a day", received=received)

    async def _go_on(self, connection: Connection) -> None:
        """Reads what had to wait for the bytes of another day."""
        folders = [folder for folder in self._roster.folders if folder.name in self._allowance.held]
        self._allowance.held.clear()
        self._say(State.CATCHING_UP, next_try=None, pending=0)
        await self._catch_up(connection, folders)

    def _count(self) -> None:
        """Adds up what came from the server."""
        if self._connection is not None:
            self._allowance.count(self._connection.take_received(), _now())

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
        coming = self._begun(reading, reading.batches(folder, cursor, compare=compare))
        async with ahead(coming, WINDOW) as batches:
            async for first in batches:
                together = [first]
                while (following := batches.waiting()) is not None and _goes_with(following, together):
                    together.append(await anext(batches))
                for brought, _ in together:
                    cursor = sync.moved(cursor, brought.chunk) if brought.chunk else cursor
                if cursor != stored or any(brought.messages or brought.gone for brought, _ in together):
                    await self._file(folder, cursor, together)
                    stored = cursor
                for brought, _ in together:
                    reading.filed(brought)
                    if brought.chunk is not None and brought.chunk.direction is Direction.FIRST:
                        reading.first -= len(brought.chunk.uids)
                        self._first_syncs[folder.name] = 0 if cursor.first_sync_done else reading.first
                        self._tell(first_sync=sum(self._first_syncs.values()))
                        self._within_budget()
        if reading.held:
            self._hold(*reading.held)
            self._allowance.held.add(folder.name)
            if cursor != stored:  # so that what comes from now on is new mail
                await self._file(folder, cursor, [(Brought(None), None)])
        return reading

    def _reading(self, connection: Connection) -> Reading:
        return Reading(
            connection, self._account, self._ledger, self._fields, self._trouble, self._expect, self._allows
        )

    def _expect(self, messages: int) -> None:
        if messages:
            self._tell(pending=self._state.pending + messages)

    async def _begun(self, reading: Reading, batches: AsyncIterator[Brought]) -> AsyncIterator[_Coming]:
        """The batches as they come; each is parsed while those before it are filed."""
        async for brought in batches:
            begun = self._ledger.begin_reading(brought.messages) if brought.messages else None
            if begun is None:
                yield brought, None
            else:
                parsing = asyncio.ensure_future(begun)
                parsing.add_done_callback(partial(_note_parsed, reading, brought))
                yield brought, parsing

    async def _file(self, folder: Folder, cursor: FolderCursor, together: Sequence[_Coming]) -> None:
        """Hands batches over, as one, until it is taken."""
        chunk = together[0][0].chunk
        batch = FolderBatch(
            self._account.name,
            folder.name,
            cursor,
            tuple(message for brought, _ in together for message in brought.messages),
            tuple(uid for brought, _ in together for uid in brought.gone),
            first_sync=chunk is not None and chunk.direction is Direction.FIRST,
            reading=_all_of([parsing for _, parsing in together if parsing is not None]),
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
        self._gone += len(batch.gone)
        handled = len(batch.messages) + len(batch.gone)
        self._say(
            state,
            filed=self._state.filed + len(batch.messages),
            pending=max(0, self._state.pending - handled),
            next_try=None,
        )

    # Auditing

    async def _audit(self, connection: Connection) -> Audit:
        """Compares all folders with the ledger, fetches what is missing, and says in one line what came of it."""
        self._audit_at = self._loop.time() + self._account.audit_interval * by_chance(0.9, 1.1)
        found = []
        for folder in self._roster.folders:
            try:
                opened = await connection.examine(folder)
            except Refused as error:
                self._visits.cannot_open(folder, error)
                continue
            self._tell(folder=folder.name)
            found.append(await self._audit_folder(connection, folder, opened))
        audit = Audit(self._account.name, tuple(found), self._roster.absent, tuple(self._roster.unopened))
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
        async with ahead(reading.missing(folder, tuple(uids_of(found.tally.missing)))) as batches:
            async for brought in batches:
                await self._file(folder, cursor, [(brought, None)])
                reading.filed(brought)
        if reading.held:
            self._hold(*reading.held)
            self._audit_at = self._loop_time_of(self._allowance.room_at)

    # Watching

    async def _look_out(self, connection: Connection) -> None:
        """Waits for something to happen, then reads it."""
        watched, others = self._roster.watched()
        if connection.open != watched and not await self._visits.visit(connection, watched):
            await self._catch_up(connection, [watched])
        if connection.open != watched:
            return  # it cannot be opened any more: the next one is watched
        if await self._idle(connection, watched, others):
            await self._take_news(connection, watched)
        else:
            await self._pause(watched)
            await self._visits.visit(connection, watched)
        self._up_to_date()
        if self._allowance.held and _now() >= self._allowance.room_at:
            await self._go_on(connection)
        if self._watch.is_time_to_look():
            await self._look_at_others(connection, watched)

    async def _take_news(self, connection: Connection, watched: Folder) -> None:
        """Reads what the server said by itself."""
        news = connection.news
        announced = news.take_announced()
        if news.changed or watched.wire in announced or self._watch.is_time_to_compare(watched):
            await self._visits.see(connection, watched)
        if news.take_folders_changed():
            self._watch.folders_changed()
        if news.take_overflowed():
            await self._watch.overflowed(connection, self._roster.openable)
        others = [folder for folder in self._roster.folders if folder.wire in announced and folder != watched]
        if others:
            await self._catch_up(connection, others)
            self._watch.announced()

    async def _look_at_others(self, connection: Connection, watched: Folder) -> None:
        if self._watch.is_time_to_list():
            before = self._roster.folders
            await self._list(connection)
            if self._roster.folders != before:
                await self._watch.subscribe(connection, self._roster.openable)
        others = [folder for folder in self._roster.folders if folder != watched]
        await self._catch_up(connection, await self._visits.look_around(connection, others))
        self._watch.looked()

    async def _idle(self, connection: Connection, watched: Folder, others: Sequence[Folder]) -> bool:
        """Waits for the server to say something. False, at once, where it does not offer IDLE or refuses it."""
        if not self._watch.can_idle(connection):
            return False
        next_look = self._watch.next_look(others)
        next_date = _now() + timedelta(seconds=max(0.0, next_look - self._loop.time()))
        self._say_resting(State.WATCHING, watched, self._watch.by(watched, others), next_date)
        end = min(next_look, self._watch.compare_at(watched))
        if self._allowance.held:
            end = min(end, self._loop_time_of(self._allowance.room_at))
        return await self._watch.idle(connection, end)

    async def _pause(self, watched: Folder) -> None:
        """Until the next look, where the server says nothing by itself."""
        seconds = self._account.poll_interval
        self._say_resting(State.POLLING, watched, "the next look", _now() + timedelta(seconds=seconds))
        await asyncio.sleep(seconds)

    def _say_resting(self, state: State, watched: Folder, waits_for: str, next_look: datetime) -> None:
        next_try = None
        if self._allowance.held:
            state, waits_for, next_try = State.WAITING, _BYTES_A_DAY, self._allowance.room_at
        self._say(state, folder=watched.name, waits_for=waits_for, next_look=next_look, next_try=next_try)

    def _loop_time_of(self, moment: datetime) -> float:
        return self._loop.time() + (moment - _now()).total_seconds()

    def _up_to_date(self) -> None:
        self._failures = 0
        error = next(iter(self._roster.unopened.values()), "")
        if self._allowance.held:
            self._tell(last_error=error)
        else:
            self._within_budget()
            self._tell(last_success=_now(), last_error=error, pending=0)

    def _tell(self, **changes: object) -> None:
        self._say(self._state.state, **changes)

    def _say(self, state: State, **changes: object) -> None:
        self._count()
        if state is not self._state.state:
            changes = {"since": _now(), "waits_for": "", "next_look": None} | changes
        changes["traffic"] = self._allowance.traffic
        self._state = replace(self._state, state=state, **changes)  # type: ignore[arg-type] # names are those of fields
        if self._report is not None:
            self._report(self._state)


def _note_parsed(reading: Reading, brought: Brought, parsing: asyncio.Future[Sequence[Parsed]]) -> None:
    if not parsing.cancelled() and parsing.exception() is None:  # whoever files it raises what went wrong
        reading.parsed(brought, parsing.result())


def _goes_with(following: _Coming, together: Sequence[_Coming]) -> bool:
    """Whether a batch may be filed with these: all are parsed, of one direction, and not too much."""
    listed = [*together, following]
    return (
        all(brought.chunk is not None and parsing is not None and parsing.done() for brought, parsing in listed)
        and len({brought.chunk.direction for brought, _ in listed if brought.chunk is not None}) == 1
        and sum(len(brought.messages) for brought, _ in listed) <= CHUNK
        and sum(brought.weight for brought, _ in listed) <= _TOGETHER_BYTES
    )


def _all_of(parsings: Sequence[asyncio.Future[Sequence[Parsed]]]) -> asyncio.Future[Sequence[Parsed]] | None:
    if len(parsings) < 2:
        return parsings[0] if parsings else None

    async def joined() -> list[Parsed]:
        return [each for parsing in parsings for each in await parsing]

    return asyncio.ensure_future(joined())


def _now() -> datetime:
    return datetime.now(UTC)
