"""The one way in: what the doors and the commands call. Each call is one transaction, or a row of small ones."""

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog

from maillinkd.directory.item import Item, ItemRef
from maillinkd.directory.lines import Change
from maillinkd.ingest import again, authors, catalogue, filing, hand, propose, sieve, undo
from maillinkd.ingest.authors import Authenticate, Checks
from maillinkd.ingest.desk import shown_id
from maillinkd.ingest.filing import Arrival, Filed, Merged, Order, Place
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.office import IMAP, SMART_BCC, Channel, Office
from maillinkd.ingest.propose import Proposal
from maillinkd.ingest.undo import Left, Undone
from maillinkd.linker.decision import Trigger
from maillinkd.mail.body import Body, Mode, read_body
from maillinkd.mail.delivery import (
    Fetched,
    FolderBatch,
    FolderCursor,
    Parsed,
    Received,
    Run,
    Stand,
    TemporaryFailure,
)
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, Role, header_date, read, read_all
from maillinkd.mail.verdict import Standing, Verdict
from maillinkd.store import aliases, cursors, gmail, inbound, journal, ledger, links, mailroom, quarantine
from maillinkd.store.aliases import Alias
from maillinkd.store.database import Connection, Database
from maillinkd.store.inbound import Waiting
from maillinkd.store.quarantine import UNAUTHENTICATED, UNREADABLE, Held
from maillinkd.worker.parent import Worker, WorkerFailed, WorkerMissing

COMMAND = "cli"
"""The instance under which commands stand in the journal."""
_T = TypeVar("_T")
Line = dict[str, Any]
CHUNK = 2_000
"""Messages that are filed in one transaction."""
CHUNK_BYTES = 4 << 20
"""Bytes of whole messages that are."""
IMPORT_BYTES = 8 << 20
"""Bytes of mail that an import holds at a time; as much again is read ahead."""
SHARED_CHUNK = 50
"""The same while others want to write too: about 20 ms, so that they need not wait long."""
CONSUME_CHUNK = 20
"""SMTP messages filed in a transaction: other mail that comes meanwhile waits for it."""
DECIDE_CHUNK = 50
QUIET = 0.02
"""Seconds without new mail after which what came is filed."""
BUSY = 0.4
"""Seconds after which it is filed although more is coming."""
MANY = 100
"""Messages that are worth the way to the worker and back."""
MAX_BATCH = 200
"""SMTP messages that one group commit makes durable."""

_NONE_ASKED: Mapping[str, Alias] = {}

log = structlog.get_logger("maillinkd.ingest")


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did."""

    read: int = 0
    new: int = 0
    quarantined: int = 0
    filtered: Mapping[str, int] = field(default_factory=dict)
    """Mails that were left out, by reason."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of reading again what could not be read."""

    filed: int
    distrusted: int
    """Could be read, and is held for another reason now."""
    unreadable: int
    lines: Sequence[Line]
    """Of the decisions on what was filed."""


_Numbered = Sequence[tuple[int, Held]]


class _Act(Protocol):
    """Within a transaction, files the mails of these numbers and holds others. Returns the decision lines."""

    def __call__(
        self, connection: Connection, numbers: Collection[int], held: _Numbered, *, done: bool
    ) -> Awaitable[list[Line]]:
        """`done`: this transaction ends the batch."""


class House:
    """Files mail, applies what hands and the directory change, and tells every decision after it is committed."""

    def __init__(
        self,
        database: Database,
        office: Office,
        *,
        instance: str,
        publish: Callable[[Line], None],
        worker: Worker | None = None,
    ) -> None:
        """`worker`: where many messages are parsed; without one that is done here."""
        self.database = database
        self.office = office
        self._instance = instance
        self._worker = worker
        self.authenticate: Authenticate | None = None
        """Checks authors of Smart Bcc mail (L14). Set by whoever receives such mail; without it none is believed."""
        self.publish = publish
        """Writes a decision line. Another takes its place when the daemon is told to reload. Raises OSError."""
        self.lines_are_due = False
        """Some could not be written."""
        self._told: list[int] = []
        self._queue: list[tuple[Received, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()
        self._kept = asyncio.Event()
        self._checks = Checks(self._kept.set)
        self._takes_mail = False
        self._taken_at = 0.0

    # -- telling ------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        """A transaction that also notes which decision lines were written since the last one."""
        told, self._told = self._told, []
        try:
            async with self.database.transaction() as connection:
                if told:
                    await journal.logged(connection, told, datetime.now(UTC))
                yield connection
        except BaseException:
            self._told = told + self._told
            raise

    def _tell(self, lines: Iterable[Line]) -> None:
        """Writes the decision lines of a transaction that is committed.

        Where that fails, the lines are still due: they are written when `tell_unlogged` is called next.
        """
        for line in lines:
            try:
                self.publish(line)
            except OSError as error:
                log.error("decision lines cannot be written", error=str(error))  # noqa: TRY400  # the disk's fault
                self.lines_are_due = True
                return
            self._told.append(line["decision"])

    async def note_told(self) -> None:
        """Notes in the journal which lines were written. Without it they would be written again after a restart."""
        if self._told:
            async with self._transaction():
                pass

    async def tell_unlogged(self, mailboxes: Collection[str] = (), *, smart_bcc: bool = False) -> int:
        """Writes the lines of decisions whose process died between commit and line. Returns how many.

        `mailboxes`, `smart_bcc`: what this process has taken over; commands that died count too.
        """
        await self.note_told()
        self.lines_are_due = False
        count = 0
        while True:
            async with self.database.reading() as connection:
                lines = await journal.unlogged(connection, {self._instance, COMMAND}, mailboxes, smart_bcc=smart_bcc)
            if not lines:
                return count
            self._tell(lines)
            if not self._told:
                return count
            await self.note_told()
            count += len(lines)

    # -- the IMAP door's ledger (mail.delivery.Ledger) ------------------------------------------------------------

    async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
        async with self.database.reading() as connection:
            return await cursors.cursor(connection, mailbox, folder)

    async def known_uids(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Collection[int]:
        async with self.database.reading() as connection:
            return await cursors.known_uids(connection, mailbox, folder, uidvalidity, low, high)

    async def settled(self, mailbox: str, folder: str, stand: Stand) -> None:
        async with self._transaction() as connection:
            await cursors.settle(connection, mailbox, folder, stand)

    async def runs(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Sequence[Run]:
        async with self.database.reading() as connection:
            return await ledger.runs(connection, mailbox, folder, uidvalidity, low, high)

    async def note_audit(self, mailbox: str, folder: str, missing: int) -> None:
        async with self._transaction() as connection:
            await ledger.note_audit(connection, mailbox, folder, missing, datetime.now(UTC))

    async def file(self, batch: FolderBatch) -> None:
        """Files what a FETCH brought; the transaction that files the last of it moves the folder's cursor.

        Where a crash comes in between, what was filed is met again and known (T11).
        """
        parsed = await (batch.reading or self.begin_reading(batch.messages))
        mails = list(zip(batch.messages, parsed, strict=True))
        slices = _slices(mails, self._chunk()) or [[]]
        for each in slices[:-1]:
            await self._file(batch, each, last=False)
        await self._file(batch, slices[-1], last=True)

    def begin_reading(self, messages: Sequence[Fetched]) -> Awaitable[Sequence[Parsed]]:
        """Parses and compresses what a FETCH brought while other things go on: in the worker, and in a thread."""
        return asyncio.ensure_future(self._prepare(messages))

    async def _prepare(self, messages: Sequence[Fetched]) -> Sequence[Parsed]:
        reading = self._read([(each.headers, each.received_at, each.size) for each in messages])
        if all(each.raw is None for each in messages):
            return [Parsed(message, None) for message in await reading]
        packing = asyncio.to_thread(mailroom.pack, [each.raw for each in messages])
        return [Parsed(*both) for both in zip(*await asyncio.gather(reading, packing), strict=True)]

    async def _read(self, mails: Sequence[tuple[bytes, datetime, int]]) -> Sequence[Message | str]:
        """Each as a message, or why it cannot be read."""
        if self._worker is not None and len(mails) >= MANY:
            try:
                return await self._worker.call(read_all, mails)
            except WorkerFailed as error:
                log.warning("mail is read without the worker", messages=len(mails), error=str(error))
        return read_all(mails)

    async def _read_body(self, raw: bytes, forwarded: Mode, sought: Message | None) -> Body:
        """Full MIME parsing, in the worker. Raises WorkerFailed where it cannot be read in time, or at all; and
        TemporaryFailure where there is no worker to be had."""
        if forwarded == "off" and sought is None:
            return Body()
        if self._worker is None:
            try:
                return read_body(raw, forwarded, sought)
            except Exception as error:
                raise WorkerFailed(f"{type(error).__name__}: {error}") from error
        try:
            return await self._worker.call(read_body, raw, forwarded, sought)
        except WorkerMissing as error:
            raise TemporaryFailure(str(error)) from error

    async def _content_ids(self, owner: str, message: Message, raw: bytes | None) -> tuple[str, ...]:
        """T12: for mail whose From is the owner's, and whose text is at hand. Raises as `_read_body`."""
        if raw is None or not _wants_content_ids(self.office, owner, message):
            return ()
        return (await self._read_body(raw, "off", message)).content_ids

    def _chunk(self) -> int:
        return SHARED_CHUNK if self._takes_mail or self.database.is_shared() else CHUNK

    async def _file(self, batch: FolderBatch, mails: Sequence[tuple[Fetched, Parsed]], *, last: bool) -> None:
        owner = self.office.owner_of_mailbox(batch.mailbox)
        order = Order.FIRST_SYNC if batch.first_sync else Order.NOW
        read: dict[int, tuple[Fetched, Message]] = {}
        unread: list[tuple[int, Held]] = []
        marks = {each.uid: each.gmail for each, _ in mails if each.gmail is not None}
        drafts = {uid for uid, each in marks.items() if each.is_draft}
        packed = {each.uid: parsed.packed for each, parsed in mails}
        for each, (message, _) in mails:
            if each.uid in drafts:
                continue
            content = each.raw if each.raw is not None else each.headers
            if isinstance(message, Message) and content:
                read[each.uid] = each, message
            else:
                why = message if isinstance(message, str) else "the server does not give it"
                log.error("message could not be read", folder=batch.folder, uid=each.uid, error=why)
                unread.append((each.uid, _unreadable(IMAP, content, each.received_at, each.size, why)))

        unwanted = sieve.reasons(self.office, owner, {uid: message for uid, (_, message) in read.items()})
        content_ids: dict[int, tuple[str, ...]] = {}
        for uid, (each, message) in list(read.items()):
            if uid in unwanted or each.raw is None or sieve.without_body(self.office, message):
                continue
            try:
                content_ids[uid] = await self._content_ids(owner, message, each.raw)
            except WorkerFailed as error:
                log.error("message could not be read", folder=batch.folder, uid=uid, error=str(error))  # noqa: TRY400
                held = _suspect(message, each.size, each.raw)
                unread.append((uid, replace(held, error=str(error))))
                del read[uid]

        async def act(connection: Connection, numbers: Collection[int], held: _Numbered, *, done: bool) -> list[Line]:
            accounted: list[tuple[int, int | None, str]] = [(uid, None, cursors.DRAFT) for uid in drafts if done]
            done = done and last
            folder = await cursors.move(connection, batch.mailbox, batch.folder, batch.cursor if done else None)
            validity = batch.cursor.uidvalidity
            out = await sieve.not_stored(connection, owner, {uid: read[uid][1] for uid in numbers if uid in unwanted})
            labelled = {uid: marks[uid] for uid in numbers if uid in marks and uid not in out}
            known = await gmail.known(connection, batch.mailbox, owner, IMAP, labelled.values())
            arrivals = []
            for uid in numbers:
                if uid in out:
                    continue
                fetched, message = read[uid]
                stored_as = known.get(labelled[uid].message_id) if uid in labelled else None
                arrival = Arrival(
                    message,
                    fetched.raw,
                    fetched.size,
                    batch.mailbox,
                    Place(folder, validity, uid),
                    content_ids=content_ids.get(uid, ()),
                    stored_as=stored_as,
                    packed=packed[uid],
                )
                if fetched.raw is not None and sieve.without_body(self.office, message):
                    arrival = arrival._replace(raw=None, packed=None)
                arrivals.append(arrival)
            filed = await filing.file_messages(
                connection, self.office, owner, IMAP, arrivals, instance=self._instance, order=order
            )
            await quarantine.hold(
                connection,
                [
                    replace(each, folder=folder, uidvalidity=validity, uid=uid, digest=_digest(each, folder, uid))
                    for uid, each in held
                ],
            )
            accounted += [(uid, None, cursors.QUARANTINED) for uid, _ in held]
            accounted += [(uid, None, unwanted[uid].disposition) for uid in out]
            await cursors.record(connection, folder, validity, accounted)
            await gmail.record(connection, folder, validity, labelled)
            if batch.gone and done:
                await cursors.gone(connection, folder, validity, batch.gone)
            return filed.lines

        def suspect(uid: int) -> Held:
            fetched, message = read[uid]
            return _suspect(message, fetched.size, fetched.raw or fetched.headers)

        await self._filed_but_for(act, sorted(read, key=lambda uid: read[uid][1].sent_at), suspect, unread)

    async def _filed_but_for(
        self, act: _Act, numbers: Sequence[int], suspect: Callable[[int], Held], held: _Numbered = ()
    ) -> int:
        """Files a batch in one transaction, and tells what was decided. Returns how many mails were set aside.

        Where it fails by a fault of ours, each mail is filed by itself, in the order given: one that fails goes to
        quarantine as `suspect` says, with the error, the others go through. `held`: mail that goes there anyway.
        """
        try:
            async with self._transaction() as connection:
                lines = await act(connection, numbers, held, done=True)
        except (TemporaryFailure, Refused):
            raise
        except Exception:
            if not numbers:
                raise
            log.exception("batch failed; filing its mails one by one", messages=len(numbers))
        else:
            self._tell(lines)
            return len(held)
        bad = list(held)
        for number in numbers:
            try:
                async with self._transaction() as connection:
                    lines = await act(connection, (number,), (), done=False)
            except TemporaryFailure:
                raise
            except Exception as error:
                found = suspect(number)
                log.exception("mail set aside", message_id=found.message_id)
                bad.append((number, replace(found, error=f"{type(error).__name__}: {error}")))
            else:
                self._tell(lines)
        async with self._transaction() as connection:
            lines = await act(connection, (), bad, done=True)
        self._tell(lines)
        return len(bad)

    # -- the SMTP door ------------------------------------------------------------------------------------------

    async def take(self, received: Received) -> None:
        """Makes a mail durable; returns when it is on disk. Mail that comes together is committed together.

        Raises TemporaryFailure when it was not kept.
        """
        loop = asyncio.get_running_loop()
        self._taken_at = loop.time()
        future: asyncio.Future[None] = loop.create_future()
        self._queue.append((received, future))
        self._arrived.set()
        await future

    async def keep_what_comes(self) -> None:
        """Commits what `take` was given, group by group, until cancelled."""
        self._takes_mail = True
        while True:
            await self._arrived.wait()
            group, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
            if not self._queue:
                self._arrived.clear()
            if group:
                await self._keep(group)

    async def _keep(self, group: Sequence[tuple[Received, asyncio.Future[None]]]) -> None:
        waiting = [future for _, future in group]
        try:
            await inbound.keep(self.database, [received for received, _ in group])
        except TemporaryFailure as failure:
            for future in waiting:
                if not future.done():
                    future.set_exception(failure)
        except Exception as error:
            if len(group) > 1:  # one of them has brought out a bug of ours; it shall not harm the others
                log.exception("mail could not be kept together; keeping it one by one", messages=len(group))
                for each in group:
                    await self._keep([each])
                return
            log.exception("mail could not be kept")
            for future in waiting:
                if not future.done():
                    future.set_exception(TemporaryFailure(f"{type(error).__name__}: {error}"))
        except BaseException:
            for future in waiting:
                if not future.done():
                    future.set_exception(TemporaryFailure("stopping"))
            raise
        else:
            for future in waiting:
                if not future.done():
                    future.set_result(None)
            self._kept.set()

    async def file_what_was_kept(self) -> None:
        """Files inbound mail, oldest first, until cancelled; begins with what an earlier process left."""
        try:
            await self._file_what_was_kept()
        finally:
            await self._checks.stop()

    async def _file_what_was_kept(self) -> None:
        while True:
            self._kept.clear()
            try:
                while await self.file_inbound():
                    await self._let_mail_in()
            except TemporaryFailure as failure:
                log.warning("inbound mail waits", error=str(failure))
                await asyncio.sleep(1)
                continue
            except Exception:
                log.exception("inbound mail cannot be filed; it waits")
                await asyncio.sleep(30)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._kept.wait(), timeout=5)  # another process may have taken mail
            await self._let_mail_in()

    async def _let_mail_in(self) -> None:
        """Steps back while mail comes, whose senders wait; for a moment only, because it is to be decided too."""
        loop = asyncio.get_running_loop()
        end = loop.time() + BUSY
        while self._queue or loop.time() - self._taken_at < QUIET:
            if loop.time() > end:
                return
            await asyncio.sleep(QUIET)

    async def file_inbound(self) -> int:
        """Files a batch of inbound mail in one transaction. Returns how many there were.

        Mail whose author is still being checked stays; it is asked for again when that is done.
        """
        async with self.database.reading() as connection:
            waiting = await inbound.waiting(
                connection, CONSUME_CHUNK, due=datetime.now(UTC), but=self._checks.unfinished
            )
            asked = await self._read_aliases(connection, [each.received for each in waiting])
        if not waiting:
            return 0
        received = await self._authenticated(waiting, asked)
        if not received:
            return len(waiting) if self._checks.room > 0 else 0
        trusted = not self.office.settings.smart_bcc.require_authentication
        sorted_ = {number: await self._sort(each, asked, trusted=trusted) for number, each in received.items()}

        def suspect(number: int) -> Held:
            return _held_from(sorted_[number], received[number], UNREADABLE, "")

        async def act(connection: Connection, numbers: Collection[int], held: _Numbered, *, done: bool) -> list[Line]:
            taken = [each for number, each in sorted_.items() if number in numbers]
            filed = await self._file_sorted(connection, taken)
            await quarantine.hold(connection, [each for _, each in held])
            await inbound.filed(connection, {*numbers, *(number for number, _ in held)})
            return filed.lines

        await self._filed_but_for(act, sorted(sorted_, key=lambda number: sorted_[number].sent_at), suspect)
        for each in sorted_.values():
            if each.held is not None:
                id_ = shown_id(each.held.message_id)
                facts = each.held.verdict.words if each.held.verdict is not None else {}
                log.warning("quarantined", reason=each.held.reason, message_id=id_, channel=SMART_BCC, **facts)
            if each.confirms:
                log.info("alias confirmed", alias=each.confirms, user=each.owner)
        return len(waiting)

    async def vouch(self, received: Received) -> Received | None:
        """Checks the author before a mail is taken: the mail with what was found; None if he may not write to us.

        Raises TemporaryFailure where DNS or the database fails.
        """
        async with self.database.reading() as connection:
            asked = await self._read_aliases(connection, [received])
        judged = self._judge(received, asked)
        if judged is not None and judged.unchecked and self.authenticate is not None:
            received = replace(received, verdict=await self.authenticate(received))
            judged = self._judge(received, asked)
        if judged is not None and judged.unchecked:
            raise TemporaryFailure(f"the author cannot be checked: {received.verdict or 'nobody checks here'}")
        return None if judged is not None and judged.reason else received

    def _judge(self, received: Received, asked: Mapping[str, Alias]) -> authors.Judged | None:
        """Whose mail it is; None if it cannot be read."""
        message = read(split(received.raw)[0], received.received_at, len(received.raw))
        trusted = not self.office.settings.smart_bcc.require_authentication
        if not isinstance(message, Message):
            return None
        return authors.judge(self.office, received, message, asked, trusted=trusted)

    async def _authenticated(self, waiting: Sequence[Waiting], asked: Mapping[str, Alias]) -> dict[int, Received]:
        """Those of the mails that can be filed or held, with what the check of their authors came to."""
        ready: dict[int, Received] = {}
        unchecked: list[Waiting] = []
        for each in waiting:
            judged = self._judge(each.received, asked)
            if judged is not None and judged.unchecked:
                unchecked.append(each)
            else:
                ready[each.number] = each.received
        if not unchecked:
            return ready
        verdicts = await self._checks.of(unchecked, self.authenticate or _nobody_checks)
        for each in unchecked:
            verdict = verdicts.get(each.number)
            if verdict is not None and verdict.standing is Standing.TEMPORARY:
                verdict = await self._put_off(each, verdict)
            if verdict is not None:
                ready[each.number] = replace(each.received, verdict=verdict)
        return ready

    async def _put_off(self, mail: Waiting, verdict: Verdict) -> Verdict | None:
        """Lets a mail wait for DNS, and returns nothing; or gives it up."""
        until = authors.next_try(mail, datetime.now(UTC))
        if until is None:
            return replace(verdict, standing=Standing.FAIL, why=f"given up: {verdict.why}")
        async with self._transaction() as connection:
            await inbound.put_off(connection, mail.number, mail.tries + 1, until)
        facts = verdict.words | {"until": until.isoformat(timespec="seconds")}
        log.warning("mail waits: its author cannot be checked", tries=mail.tries + 1, **facts)
        return None

    async def refresh_aliases(self) -> None:
        """Takes over the aliases that were confirmed or removed, here or by a command. Raises TemporaryFailure."""
        async with self.database.reading() as connection:
            await self._read_aliases(connection)

    async def _read_aliases(self, connection: Connection, mails: Sequence[Received] = ()) -> Mapping[str, Alias]:
        """Takes the confirmed aliases over; returns those that wait for these mails, by token."""
        confirmed = await aliases.confirmed(connection)
        if confirmed != self.office.aliases:
            self.office = replace(self.office, aliases=confirmed)
        return await authors.asked_for(connection, self.office, mails, datetime.now(UTC))

    async def _sort(
        self, received: Received, asked: Mapping[str, Alias] = _NONE_ASKED, *, trusted: bool, owner: str | None = None
    ) -> "_Sorted":
        """L14, L15: whose mail it is, and who is in it; or why it goes to quarantine.

        Raises TemporaryFailure where there is no worker to be had.
        """
        try:
            found = _sort_readable(self.office, received, asked, trusted=trusted, owner=owner)
            if found.arrival is None:
                return found
            message = found.arrival.message
            sought = message if _wants_content_ids(self.office, found.owner, message) else None
            body = await self._read_body(received.raw, found.forwarded, sought)
        except TemporaryFailure:
            raise
        except Exception as error:
            log.exception("message could not be read", size=len(received.raw))
            why = str(error) if isinstance(error, WorkerFailed) else f"{type(error).__name__}: {error}"
            held = _unreadable(SMART_BCC, received.raw, received.received_at, len(received.raw), why)
            return _Sorted(received.received_at, held=_in_envelope(held, received))
        forwarded = tuple((each.address, each.evidence) for each in body.forwarded)
        return replace(found, arrival=found.arrival._replace(forwarded=forwarded, content_ids=body.content_ids))

    async def _file_sorted(self, connection: Connection, mails: Iterable["_Sorted"]) -> Filed:
        """Files Smart Bcc mail, each in its owner's scope, and holds what is to be held."""
        lines: list[Line] = []
        stored = 0
        by_owner = defaultdict[str, list[Arrival]](list)
        held = []
        mails = list(mails)
        unmarked = {each.digest for each in mails if each.digest}
        filed_before = await inbound.known(connection, unmarked) if unmarked else set()
        filed_now = set[bytes]()
        for each in mails:
            if each.confirms:
                await aliases.confirm(connection, each.confirms, datetime.now(UTC))
            if each.held is not None:
                held.append(each.held)
            elif each.arrival is not None and each.digest not in filed_before | filed_now:
                by_owner[each.owner].append(each.arrival)
                filed_now |= {each.digest} & unmarked
        for owner, arrivals in sorted(by_owner.items()):
            filed = await filing.file_messages(
                connection, self.office, owner, SMART_BCC, arrivals, instance=self._instance
            )
            lines += filed.lines
            stored += filed.stored
        if filed_now:
            await inbound.remember(connection, filed_now, datetime.now(UTC))
        await quarantine.hold(connection, held)
        return Filed(lines, stored)

    # -- commands -----------------------------------------------------------------------------------------------

    async def import_mail(
        self, mailbox: str, mails: Iterable[tuple[bytes, datetime | None]], progress: Callable[[int], None]
    ) -> ImportSummary:
        """Imports whole mails into a mailbox's scope, as one batch (L26): all are placed, then threads are decided.

        `mails`: bytes and the time received, None where the Date header is all there is.
        """
        async with self.database.importing():
            return await self._import_mail(mailbox, mails, progress)

    async def _import_mail(
        self, mailbox: str, mails: Iterable[tuple[bytes, datetime | None]], progress: Callable[[int], None]
    ) -> ImportSummary:
        owner = self.office.owner_of_mailbox(mailbox)
        keep_raw = self.office.settings.mailboxes[mailbox].store == "full"
        read = new = quarantined = 0
        filtered = Counter[str]()
        merged: list[Merged] = []
        order: Order | None = None
        async for group, more in self._read_in_groups(mails):
            order = order or (Order.LATER if more else Order.NOW)
            arrivals: dict[int, Arrival] = {}
            unread: list[tuple[int, Held]] = []
            for number, (mail, message) in enumerate(group):
                if isinstance(message, Message):
                    kept = mail.raw if keep_raw and not sieve.without_body(self.office, message) else None
                    try:
                        ids = await self._content_ids(owner, message, kept)
                    except WorkerFailed as error:
                        held = replace(_suspect(message, len(mail.raw), mail.raw), error=str(error))
                        unread.append((number, held))
                    else:
                        arrivals[number] = Arrival(message, kept, len(mail.raw), mailbox, content_ids=ids)
                else:
                    unread.append((number, _unreadable(IMAP, mail.raw, mail.received_at, len(mail.raw), message)))
            for _, each in unread:
                log.error("message could not be read", mailbox=mailbox, error=each.error)

            messages = {number: each.message for number, each in arrivals.items()}
            unwanted = sieve.reasons(self.office, owner, messages)

            async def act(
                connection: Connection,
                numbers: Collection[int],
                held: _Numbered,
                *,
                done: bool,
                arrivals: Mapping[int, Arrival] = arrivals,
                unwanted: Mapping[int, sieve.Filtered] = unwanted,
                order: Order = order,
            ) -> list[Line]:
                nonlocal new
                asked = {number: arrivals[number].message for number in numbers if number in unwanted}
                out = await sieve.not_stored(connection, owner, asked)
                some = [arrivals[number] for number in numbers if number not in out]
                filed = await filing.file_messages(
                    connection, self.office, owner, IMAP, some, instance=self._instance, order=order
                )
                folder = await cursors.imported_folder(connection, mailbox) if held else None
                await quarantine.hold(
                    connection, [replace(each, folder=folder, digest=_digest(each, 0, 0)) for _, each in held]
                )
                new += filed.stored
                filtered.update(str(unwanted[number]) for number in out)
                merged.extend(filed.merged)
                return filed.lines

            def suspect(
                number: int,
                group: Sequence[tuple[_Mail, Message | str]] = group,
                arrivals: Mapping[int, Arrival] = arrivals,
            ) -> Held:
                return _suspect(arrivals[number].message, arrivals[number].size, group[number][0].raw)

            sent = {number: arrival.message.sent_at for number, arrival in arrivals.items()}
            quarantined += await self._filed_but_for(act, sorted(sent, key=sent.__getitem__), suspect, unread)
            read += len(group)
            progress(len(group))
        await self._decide_what_was_placed(merged)
        await self.note_told()
        return ImportSummary(read, new, quarantined, filtered)

    async def _read_in_groups(
        self, mails: Iterable[tuple[bytes, datetime | None]]
    ) -> AsyncIterator[tuple[list[tuple["_Mail", Message | str]], bool]]:
        """Mails with what was read of them, and whether there are more: the next group is read meanwhile."""

        def begin() -> tuple[list[_Mail], asyncio.Task[Sequence[Message | str]]] | None:
            if (group := next(groups, None)) is None:
                return None
            return group, asyncio.create_task(self._read([(split(raw)[0], when, len(raw)) for raw, when in group]))

        groups = _mail_groups((_Mail(raw, received_at or _date(raw)) for raw, received_at in mails), self._chunk())
        coming = begin()
        try:
            while coming is not None:
                (group, reading), coming = coming, begin()
                yield list(zip(group, await reading, strict=True)), coming is not None
        finally:
            if coming is not None:
                coming[1].cancel()

    async def finish_imports(self) -> None:
        """Decides threads whose messages were placed by an import that was cut off; not while another one is on."""
        async with self.database.importing(patient=False) as ours:
            if ours:
                await self._decide_what_was_placed()

    async def _decide_what_was_placed(self, merged: Sequence[Merged] = ()) -> None:
        """`merged`: the threads that the import made one, for their decision lines."""
        async with self.database.reading() as connection:
            labels_of_merged = await links.labels_of(connection, {each.number for each in merged})
        merges = defaultdict[int, list[Merged]](list)
        for each in merged:
            if each.number in labels_of_merged:
                merges[labels_of_merged[each.number]].append(each)
        while True:
            async with self.database.reading() as connection:
                found = await mailroom.undecided_threads(connection, self._chunk())
            if not found:
                return
            by_scope = defaultdict[tuple[str, str], list[int]](list)
            for owner, channel, label in found:
                by_scope[owner, channel].append(label)
            for (owner, channel), labels in by_scope.items():
                async with self._transaction() as connection:
                    lines = await filing.decide_undecided(
                        connection, self.office, owner, _channel(channel), labels, merges, instance=self._instance
                    )
                self._tell(lines)

    async def import_smart_bcc(
        self,
        recipients: Sequence[str],
        sender: str,
        mails: Iterable[tuple[bytes, datetime | None]],
        progress: Callable[[int], None],
    ) -> ImportSummary:
        """Imports mails as if received by SMTP, their sender's authentication taken as passed; in order of sent time.

        Raises Refused for a recipient that is not ours.
        """
        for recipient in recipients:
            if self.office.recipient(recipient) is None:
                raise Refused(f"{recipient} is no Smart Bcc address of this configuration")
        read = new = quarantined = 0
        sorted_: list[tuple[_Sorted, Received]] = []
        for raw, received_at in mails:
            received = Received(sender, tuple(recipients), raw, received_at or _date(raw))
            sorted_.append((await self._sort(received, trusted=True), received))
            read += 1
        sorted_.sort(key=lambda each: each[0].sent_at)
        for group in _groups(sorted_, SHARED_CHUNK):

            async def act(
                connection: Connection,
                numbers: Collection[int],
                held: _Numbered,
                *,
                done: bool,
                group: Sequence[tuple[_Sorted, Received]] = group,
            ) -> list[Line]:
                nonlocal new
                filed = await self._file_sorted(connection, [group[number][0] for number in sorted(numbers)])
                await quarantine.hold(connection, [each for _, each in held])
                new += filed.stored
                return filed.lines

            def suspect(number: int, group: Sequence[tuple[_Sorted, Received]] = group) -> Held:
                return _held_from(*group[number], UNREADABLE, "")

            quarantined += await self._filed_but_for(act, range(len(group)), suspect)
            quarantined += sum(each.held is not None for each, _ in group)
            progress(len(group))
        await self.note_told()
        return ImportSummary(read, new, quarantined)

    async def import_items(self, changes: Sequence[Change]) -> list[Item]:
        """Applies item lines, in order, and lets threads follow (L6, L10). Returns the items as they are now."""
        async with self._transaction() as connection:
            found, lines = await catalogue.apply(
                connection, self.office, changes, datetime.now(UTC), instance=self._instance
            )
        self._tell(lines)
        return found

    async def link(self, user: str, threads: Sequence[int], ref: ItemRef) -> list[Line]:
        """Links threads by hand; see ingest.hand.link."""
        async with self._transaction() as connection:
            lines = await hand.link(connection, self.office, user, threads, ref, instance=self._instance)
        self._tell(lines)
        return lines

    async def unlink(self, user: str, threads: Sequence[int], ref: ItemRef) -> list[Line]:
        """Unlinks threads by hand; see ingest.hand.unlink."""
        async with self._transaction() as connection:
            lines = await hand.unlink(connection, self.office, user, threads, ref, instance=self._instance)
        self._tell(lines)
        return lines

    async def undo(self, user: str, batch: int, progress: Callable[[int], None]) -> Undone:
        """Takes back a batch of changes, as a batch; see ingest.undo. Raises NotPermitted or Refused."""
        async with self.database.reading() as connection:
            decisions = await undo.decisions_of(connection, self.office, user, batch)
        number: int | None = None
        lines: list[Line] = []
        left: list[Left] = []
        for some in _groups(decisions, DECIDE_CHUNK):
            async with self._transaction() as connection:
                found, number = await undo.undo(connection, self.office, user, some, number, instance=self._instance)
            self._tell(found.lines)
            lines += found.lines
            left += found.left
            progress(len(some))
        await self.note_told()
        return Undone(lines, left)

    async def propose(self, item: ItemRef | None, owner: str | None) -> list[Proposal]:
        """L25: threads that might be linked to an item that came later, or without `item` to any open one.

        `owner`: theirs alone. Raises Refused for an item that is unknown, deleted, or no deal, lead or project.
        """
        async with self.database.reading() as connection:
            if item is None:
                return await propose.of_all(connection, self.office, owner)
            return await propose.of_item(connection, self.office, item, owner)

    async def link_proposed(
        self, user: str, choices: Mapping[int, ItemRef], progress: Callable[[int], None]
    ) -> list[Line]:
        """Links threads to what was proposed for them, as one batch; see ingest.propose.link.

        Raises NotPermitted, before anything has changed.
        """
        async with self.database.reading() as connection:
            await hand.permitted(connection, self.office, user, choices)
        lines: list[Line] = []
        for some in _groups(choices, DECIDE_CHUNK):
            batch = lines[0]["batch"] if lines else None
            chosen = {thread: choices[thread] for thread in some}
            async with self._transaction() as connection:
                found = await propose.link(connection, self.office, user, chosen, batch, instance=self._instance)
            self._tell(found)
            lines += found
            progress(len(some))
        await self.note_told()
        return lines

    async def decide(
        self, *, since: datetime | None, item: ItemRef | None, dry_run: bool, progress: Callable[[int], None]
    ) -> list[Line]:
        """L28: decides threads again that no hand has settled, as one batch. Returns the lines of what changes.

        `since`: those whose newest message is not older; `item`: those that are linked to it, or in which its contact
        person takes part. `dry_run` writes nothing. Raises Refused for an unknown item.
        """
        async with self.database.reading() as connection:
            labels = await again.threads_to_decide(connection, since, item)
        number: int | None = None
        lines: list[Line] = []
        for some in _groups(labels, DECIDE_CHUNK):
            with contextlib.suppress(_Rehearsal):
                async with self._transaction() as connection:
                    found, number = await again.decide(connection, self.office, some, number, instance=self._instance)
                    if dry_run:
                        number = None
                        lines += found
                        raise _Rehearsal
            if not dry_run:
                self._tell(found)
                lines += found
            progress(len(some))
        await self.note_told()
        return lines

    async def release(self, number: int, owner: str | None) -> list[Line]:
        """Takes a mail out of quarantine and files it as if it had been trusted (L14).

        Raises Refused for an unknown number, a mail that still cannot be read, or one whose owner is not clear.
        """
        async with self.database.reading() as connection:
            held = await quarantine.get(connection, number)
        if held is None:
            raise Refused(f"there is no mail {number} in quarantine")
        who, channel, arrival = await self._released(held, owner)
        return await self._file_held(number, who, channel, arrival, Trigger.RELEASE)

    async def retry(self, progress: Callable[[int], None]) -> Retried:
        """Reads all mail again that lies in quarantine because it could not be read, and files what can be.

        What is read and not trusted stays there, with that reason.
        """
        lines: list[Line] = []
        filed = distrusted = unreadable = 0
        async with self.database.reading() as connection:
            numbers = await quarantine.unreadable(connection)
        for number in numbers:
            async with self.database.reading() as connection:
                held = await quarantine.get(connection, number)
            if held is None:  # dropped meanwhile
                continue
            who, channel, found = await self._read_again(held)
            if isinstance(found, Held):
                async with self._transaction() as connection:
                    await quarantine.change(connection, number, found)
                distrusted += found.reason != UNREADABLE
                unreadable += found.reason == UNREADABLE
            else:
                try:
                    lines += await self._file_held(number, who, channel, found, Trigger.MESSAGE)
                except (TemporaryFailure, Refused):
                    raise
                except Exception:
                    log.exception("mail stays in quarantine", number=number)
                    unreadable += 1
                else:
                    filed += 1
            progress(1)
        await self.note_told()
        return Retried(filed, distrusted, unreadable, lines)

    async def _read_again(self, held: Held) -> tuple[str, Channel, Arrival | Held]:
        """A mail as it would be filed, or as it is to be held."""
        if held.channel == SMART_BCC:
            trusted = not self.office.settings.smart_bcc.require_authentication
            found = await self._sort(_received(held), trusted=trusted)
            if found.arrival is not None:
                return found.owner, SMART_BCC, found.arrival
            return "", SMART_BCC, found.held or held
        try:
            return await self._released(held, None)
        except Refused as refused:
            return "", IMAP, replace(held, error=str(refused))

    async def _file_held(
        self, number: int, who: str, channel: Channel, arrival: Arrival, trigger: Trigger
    ) -> list[Line]:
        async with self._transaction() as connection:
            if not await quarantine.drop(connection, number):
                raise Refused(f"mail {number} is no longer in quarantine")
            filed = await filing.file_messages(
                connection, self.office, who, channel, [arrival], instance=self._instance, trigger=trigger
            )
        self._tell(filed.lines)
        return filed.lines

    async def _released(self, held: Held, owner: str | None) -> tuple[str, Channel, Arrival]:
        if held.channel == SMART_BCC:
            return await self._released_bcc(held, _received(held), owner)
        if held.mailbox is None or held.mailbox not in self.office.settings.mailboxes:
            raise Refused(f"the mailbox of mail {held.number} is not in the configuration")
        headers, _ = split(held.raw)
        message = read(headers, held.received_at, held.size)
        if not isinstance(message, Message):
            raise Refused(f"mail {held.number} still cannot be read: {message}")
        place = None
        if held.folder is not None and held.uidvalidity is not None and held.uid is not None:
            place = Place(held.folder, held.uidvalidity, held.uid)
        owner = self.office.owner_of_mailbox(held.mailbox)
        raw, ids = None, tuple[str, ...]()
        if self.office.settings.mailboxes[held.mailbox].store == "full" and len(held.raw) == held.size:
            raw = held.raw
            try:
                ids = await self._content_ids(owner, message, raw)
            except WorkerFailed as error:
                raise Refused(f"mail {held.number} still cannot be read: {error}") from error
        return owner, IMAP, Arrival(message, raw, held.size, held.mailbox, place, content_ids=ids)

    async def _released_bcc(self, held: Held, received: Received, owner: str | None) -> tuple[str, Channel, Arrival]:
        who = owner or self.office.owner_of_address(held.author)
        if who is None:
            author = held.author or "nobody"
            raise Refused(f"mail {held.number} is from {author}, who is no user: say whose it is with --owner USER")
        if who not in self.office.settings.users:
            raise Refused(f"there is no user {who!r} in the configuration")
        found = await self._sort(received, trusted=True, owner=who)
        if found.arrival is None:
            reason = found.held.error or found.held.reason if found.held else "unknown"
            raise Refused(f"mail {held.number} cannot be filed: {reason}")
        return who, SMART_BCC, found.arrival


class _Mail(NamedTuple):
    """A mail that came as a file."""

    raw: bytes
    received_at: datetime


class _Rehearsal(Exception):
    """Ends a transaction that was only tried."""


@dataclass(frozen=True, slots=True)
class _Sorted:
    """What is to become of a mail that came by SMTP: one of arrival and held, or neither if it confirms an alias."""

    sent_at: datetime
    owner: str = ""
    arrival: Arrival | None = None
    held: Held | None = None
    author: str = ""
    message_id: str = ""
    forwarded: Mode = "off"
    """Where the persons of a forward are still to be sought (L15)."""
    digest: bytes = b""
    """Of envelope and bytes, where nothing else tells the mail from its retry."""
    confirms: str = ""
    """The alias of the owner that it confirms."""


def _sort_readable(
    office: Office, received: Received, asked: Mapping[str, Alias], *, trusted: bool, owner: str | None
) -> _Sorted:
    headers, _ = split(received.raw)
    message = read(headers, received.received_at, len(received.raw))
    if not isinstance(message, Message):
        held = _unreadable(SMART_BCC, received.raw, received.received_at, len(received.raw), message)
        return _Sorted(received.received_at, held=_in_envelope(held, received))
    senders = [each.address for each in message.participants if each.role is Role.FROM]
    author = senders[0] if len(senders) == 1 else ""
    found = _Sorted(message.sent_at, author=author, message_id=message.message_id)
    judged = authors.Judged(owner) if owner else authors.judge(office, received, message, asked, trusted=trusted)
    if judged.reason or judged.unchecked:
        reason, error = judged.reason or UNAUTHENTICATED, judged.error or "not checked"
        return replace(found, held=_held_from(found, received, reason, error))
    who = judged.owner
    targets = [office.recipient(recipient) for recipient in received.recipients]
    lasting = [target for target in targets if target is not None and not target.alias]
    if judged.confirms and not lasting:
        return replace(found, owner=who, confirms=judged.confirms)
    if not lasting:
        error = "its one-time address was used, or is void" if any(targets) else _NO_ADDRESS
        return replace(found, held=_held_from(found, received, "smart_bcc_unknown_recipient", error))
    found = replace(found, confirms=judged.confirms)
    named = tuple(target.item for target in lasting if target.item is not None)
    external = any(not office.is_internal(office.compared(each.address)) for each in message.participants)
    visible = any(
        each.role in (Role.TO, Role.CC) and office.recipient(each.address) is not None
        for each in message.participants
    )
    arrival = Arrival(message, received.raw, len(received.raw), named=named, is_forward=visible and not external)
    unmarked = message.made_id and message.date is None
    return replace(
        found,
        owner=who,
        arrival=arrival,
        forwarded="off" if external else office.forwarded,
        digest=inbound.digest_of(received) if unmarked else b"",
    )


def _wants_content_ids(office: Office, owner: str, message: Message) -> bool:
    """T12: whether it is sought by its text, which is for mail whose From is the owner's."""
    if not office.policy.match_rewritten:
        return False
    authors = (each.address for each in message.participants if each.role is Role.FROM)
    return any(office.writes_for(author, owner) for author in authors)


def _received(held: Held) -> Received:
    """A mail in quarantine as the SMTP door had handed it over."""
    return Received(held.sender, held.recipients, held.raw, held.received_at, verdict=held.verdict)


def _date(raw: bytes) -> datetime:
    """The time received of mail that says nothing of it: its Date header, or else now."""
    return header_date(split(raw)[0]) or datetime.now(UTC)


_NO_ADDRESS = "none of its recipients is a Smart Bcc address any more"


async def _nobody_checks(_: Received) -> Verdict:
    return Verdict(Standing.FAIL, why="nobody checks authors here")


def _held_from(found: _Sorted, received: Received, reason: str, error: str) -> Held:
    held = Held(
        digest=b"",
        channel=SMART_BCC,
        reason=reason,
        error=error,
        message_id=found.message_id,
        received_at=received.received_at,
        size=len(received.raw),
        raw=received.raw,
        author=found.author,
        verdict=received.verdict,
    )
    return _in_envelope(held, received)


def _in_envelope(held: Held, received: Received) -> Held:
    return replace(
        held,
        sender=received.sender,
        recipients=received.recipients,
        digest=inbound.digest_of(received),
        verdict=received.verdict,
    )


def _unreadable(channel: str, raw: bytes, received_at: datetime, size: int, error: str = "") -> Held:
    return Held(b"", channel, UNREADABLE, error, "", received_at, size, raw)


def _suspect(message: Message, size: int, raw: bytes) -> Held:
    """How synced mail would lie in quarantine, were it to fail."""
    return Held(b"", IMAP, UNREADABLE, "", message.message_id, message.received_at, size, raw)


def _digest(held: Held, folder: int, uid: int) -> bytes:
    return sha256(b"%d %d " % (folder, uid) + held.raw).digest()


def _slices(mails: Sequence[tuple[Fetched, Parsed]], most: int) -> list[Sequence[tuple[Fetched, Parsed]]]:
    """Mails that go in together: not too many, and not too large."""
    slices: list[Sequence[tuple[Fetched, Parsed]]] = []
    start = size = 0
    for position, (fetched, _) in enumerate(mails):
        larger = size + len(fetched.raw or b"")
        if position > start and (position - start == most or larger > CHUNK_BYTES):
            slices.append(mails[start:position])
            start, larger = position, len(fetched.raw or b"")
        size = larger
    return [*slices, mails[start:]] if mails else slices


def _mail_groups(mails: Iterable[_Mail], most: int) -> Iterator[list[_Mail]]:
    """So many together, or as many as `IMPORT_BYTES` hold."""
    group: list[_Mail] = []
    size = 0
    for mail in mails:
        if group and (len(group) == most or size + len(mail.raw) > IMPORT_BYTES):
            yield group
            group, size = [], 0
        group.append(mail)
        size += len(mail.raw)
    if group:
        yield group


def _groups(values: Iterable[_T], size: int) -> Iterator[list[_T]]:
    group: list[_T] = []
    for value in values:
        group.append(value)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _channel(name: str) -> Channel:
    return SMART_BCC if name == SMART_BCC else IMAP
