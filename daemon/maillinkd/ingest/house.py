"""The one way in: what the doors and the commands call. Each call is one transaction, or a row of small ones."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import chain
from typing import Any, Protocol, TypeVar

import structlog

from maillinkd.directory.item import Item, ItemRef
from maillinkd.directory.lines import Change
from maillinkd.ingest import again, catalogue, filing, hand
from maillinkd.ingest.desk import shown_id
from maillinkd.ingest.filing import Arrival, Filed, Merged, Order, Place
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.office import IMAP, SMART_BCC, Channel, Office
from maillinkd.linker.decision import Trigger
from maillinkd.mail.delivery import FolderBatch, FolderCursor, Received, TemporaryFailure
from maillinkd.mail.forward import forwarded_addresses
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, Role, header_date, parse
from maillinkd.mail.rewritten import content_ids
from maillinkd.store import cursors, inbound, journal, mailroom, quarantine
from maillinkd.store.database import Connection, Database
from maillinkd.store.quarantine import UNAUTHENTICATED, UNKNOWN_SENDER, UNREADABLE, Held

COMMAND = "cli"
"""The instance under which commands stand in the journal."""
_T = TypeVar("_T")
Line = dict[str, Any]
CHUNK = 500
"""Messages that are filed in one transaction."""
SHARED_CHUNK = 50
"""The same while others want to write too: about 20 ms, so that they need not wait long."""
CONSUME_CHUNK = 20
"""SMTP messages filed in a transaction: other mail that comes meanwhile waits for it."""
DECIDE_CHUNK = 50
QUIET = 0.02
"""Seconds without new mail after which what came is filed."""
BUSY = 0.2
"""Seconds after which it is filed although more is coming."""
MAX_BATCH = 200
"""SMTP messages that one group commit makes durable."""

log = structlog.get_logger("maillinkd.ingest")


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did."""

    read: int = 0
    new: int = 0
    quarantined: int = 0


_Numbered = Sequence[tuple[int, Held]]


class _Act(Protocol):
    """Within a transaction, files the mails of these numbers and holds others. Returns the decision lines."""

    def __call__(
        self, connection: Connection, numbers: Collection[int], held: _Numbered, *, done: bool
    ) -> Awaitable[list[Line]]:
        """`done`: this transaction ends the batch."""


class House:
    """Files mail, applies what hands and the directory change, and tells every decision after it is committed."""

    def __init__(self, database: Database, office: Office, *, instance: str, publish: Callable[[Line], None]) -> None:
        self.database = database
        self.office = office
        self._instance = instance
        self.publish = publish
        """Writes a decision line. Another takes its place when the daemon is told to reload. Raises OSError."""
        self.lines_are_due = False
        """Some could not be written."""
        self._told: list[int] = []
        self._queue: list[tuple[Received, asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()
        self._kept = asyncio.Event()
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

    async def file(self, batch: FolderBatch) -> None:
        """Files what a FETCH brought; the transaction that files the last of it moves the folder's cursor.

        Where a crash comes in between, what was filed is met again and known (T11).
        """
        slices = list(_groups(batch.messages, self._chunk())) or [[]]
        *early, last = [replace(batch, messages=tuple(each)) for each in slices]
        for each in early:
            await self._file(replace(each, gone=()), last=False)
        await self._file(replace(batch, messages=last.messages), last=True)

    def _chunk(self) -> int:
        return SHARED_CHUNK if self._takes_mail or self.database.is_shared() else CHUNK

    async def _file(self, batch: FolderBatch, *, last: bool) -> None:
        owner = self.office.owner_of_mailbox(batch.mailbox)
        order = Order.FIRST_SYNC if batch.first_sync else Order.NOW
        parsed: list[tuple[int, Arrival]] = []
        unread: list[tuple[int, Held]] = []
        for each in batch.messages:
            content = each.raw if each.raw is not None else each.headers
            message = _read(each.headers, each.received_at, each.size) if content else "the server does not give it"
            if isinstance(message, Message):
                ids = _content_ids(self.office, owner, message, each.raw)
                parsed.append((each.uid, Arrival(message, each.raw, each.size, batch.mailbox, content_ids=ids)))
            else:
                unread.append((each.uid, _unreadable(IMAP, content, each.received_at, each.size, message)))

        async def act(connection: Connection, numbers: Collection[int], held: _Numbered, *, done: bool) -> list[Line]:
            cursor = batch.cursor if done and last else None
            folder = await cursors.move(connection, batch.mailbox, batch.folder, cursor)
            validity = batch.cursor.uidvalidity
            arrivals = [
                replace(arrival, place=Place(folder, validity, uid)) for uid, arrival in parsed if uid in numbers
            ]
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
            await cursors.record(connection, folder, validity, [(uid, None, cursors.QUARANTINED) for uid, _ in held])
            if batch.gone and done:
                await cursors.gone(connection, folder, validity, batch.gone)
            return filed.lines

        parsed.sort(key=lambda each: each[1].message.sent_at)
        headers = {each.uid: each.headers for each in batch.messages}
        suspects = {uid: _suspect(IMAP, arrival, arrival.raw or headers[uid]) for uid, arrival in parsed}
        await self._filed_but_for(act, suspects, unread)

    async def _filed_but_for(self, act: _Act, suspects: Mapping[int, Held], held: _Numbered = ()) -> int:
        """Files a batch in one transaction, and tells what was decided. Returns how many mails were set aside.

        Where it fails by a fault of ours, each mail is filed by itself, in the order given: one that fails goes to
        quarantine with its bytes and the error, the others go through. `held`: mail that goes there anyway.
        """
        try:
            async with self._transaction() as connection:
                lines = await act(connection, suspects.keys(), held, done=True)
        except (TemporaryFailure, Refused):
            raise
        except Exception:
            if not suspects:
                raise
            log.exception("batch failed; filing its mails one by one", messages=len(suspects))
        else:
            self._tell(lines)
            return len(held)
        bad = list(held)
        for number, suspect in suspects.items():
            try:
                async with self._transaction() as connection:
                    lines = await act(connection, {number}, (), done=False)
            except TemporaryFailure:
                raise
            except Exception as error:
                log.exception("mail set aside", message_id=suspect.message_id)
                bad.append((number, replace(suspect, error=f"{type(error).__name__}: {error}")))
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
            async with self.database.transaction() as connection:
                await inbound.keep(connection, [received for received, _ in group])
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
        """Files a batch of inbound mail in one transaction. Returns how many there were."""
        async with self.database.reading() as connection:
            waiting = await inbound.waiting(connection, CONSUME_CHUNK)
        if not waiting:
            return 0
        trusted = not self.office.settings.smart_bcc.require_authentication
        received = {each.number: each.received for each in waiting}
        sorted_ = {number: _sort(self.office, each, trusted=trusted) for number, each in received.items()}
        suspects = {
            number: _held_from(each, received[number], UNREADABLE, "")
            for number, each in sorted(sorted_.items(), key=lambda pair: pair[1].sent_at)
        }

        async def act(connection: Connection, numbers: Collection[int], held: _Numbered, *, done: bool) -> list[Line]:
            taken = [each for number, each in sorted_.items() if number in numbers]
            filed = await self._file_sorted(connection, taken)
            await quarantine.hold(connection, [each for _, each in held])
            await inbound.filed(connection, {*numbers, *(number for number, _ in held)})
            return filed.lines

        await self._filed_but_for(act, suspects)
        for each in sorted_.values():
            if each.held is not None:
                id_ = shown_id(each.held.message_id)
                log.warning("quarantined", reason=each.held.reason, message_id=id_, channel=SMART_BCC)
        return len(waiting)

    async def _file_sorted(self, connection: Connection, mails: Iterable["_Sorted"]) -> Filed:
        """Files Smart Bcc mail, each in its owner's scope, and holds what is to be held."""
        lines: list[Line] = []
        stored = 0
        by_owner = defaultdict[str, list[Arrival]](list)
        held = []
        for each in mails:
            if each.held is not None:
                held.append(each.held)
            elif each.arrival is not None:
                by_owner[each.owner].append(each.arrival)
        for owner, arrivals in sorted(by_owner.items()):
            filed = await filing.file_messages(
                connection, self.office, owner, SMART_BCC, arrivals, instance=self._instance
            )
            lines += filed.lines
            stored += filed.stored
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
        merged: list[Merged] = []
        groups = _groups(mails, self._chunk())
        first, second = next(groups, []), next(groups, None)
        order = Order.NOW if second is None else Order.LATER
        for group in chain([first], [second] if second is not None else [], groups):
            arrivals: dict[int, Arrival] = {}
            unread: list[tuple[int, Held]] = []
            for number, (raw, received_at) in enumerate(group):
                message = _read_mail(raw, received_at)
                if isinstance(message, Message):
                    kept = raw if keep_raw else None
                    ids = _content_ids(self.office, owner, message, kept)
                    arrivals[number] = Arrival(message, kept, len(raw), mailbox, content_ids=ids)
                else:
                    when = received_at or datetime.now(UTC)
                    unread.append((number, _unreadable(IMAP, raw, when, len(raw), message)))

            async def act(
                connection: Connection,
                numbers: Collection[int],
                held: _Numbered,
                *,
                done: bool,
                arrivals: Mapping[int, Arrival] = arrivals,
            ) -> list[Line]:
                nonlocal new
                some = [arrivals[number] for number in numbers]
                filed = await filing.file_messages(
                    connection, self.office, owner, IMAP, some, instance=self._instance, order=order
                )
                await quarantine.hold(connection, [replace(each, digest=_digest(each, 0, 0)) for _, each in held])
                new += filed.stored
                merged.extend(filed.merged)
                return filed.lines

            ranked = sorted(arrivals.items(), key=lambda each: each[1].message.sent_at)
            suspects = {number: _suspect(IMAP, arrival, group[number][0]) for number, arrival in ranked}
            quarantined += await self._filed_but_for(act, suspects, unread)
            read += len(group)
            progress(len(group))
        await self._decide_what_was_placed(merged)
        await self.note_told()
        return ImportSummary(read, new, quarantined)

    async def finish_imports(self) -> None:
        """Decides threads whose messages were placed by an import that was cut off; not while another one is on."""
        async with self.database.importing(patient=False) as ours:
            if ours:
                await self._decide_what_was_placed()

    async def _decide_what_was_placed(self, merged: Sequence[Merged] = ()) -> None:
        """`merged`: the threads that the import made one, for their decision lines."""
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
                        connection, self.office, owner, _channel(channel), labels, merged, instance=self._instance
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
            sorted_.append((_sort(self.office, received, trusted=True), received))
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

            suspects = {n: _held_from(each, received, UNREADABLE, "") for n, (each, received) in enumerate(group)}
            quarantined += await self._filed_but_for(act, suspects)
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
        async with self._transaction() as connection:
            held = await quarantine.get(connection, number)
            if held is None:
                raise Refused(f"there is no mail {number} in quarantine")
            who, channel, arrival = self._released(held, owner)
            filed = await filing.file_messages(
                connection,
                self.office,
                who,
                channel,
                [arrival],
                instance=self._instance,
                trigger=Trigger.RELEASE,
            )
            await quarantine.drop(connection, number)
        self._tell(filed.lines)
        return filed.lines

    def _released(self, held: Held, owner: str | None) -> tuple[str, Channel, Arrival]:
        if held.channel == SMART_BCC:
            received = Received(held.sender, held.recipients, held.raw, held.received_at)
            return self._released_bcc(held, received, owner)
        if held.mailbox is None or held.mailbox not in self.office.settings.mailboxes:
            raise Refused(f"the mailbox of mail {held.number} is not in the configuration")
        headers, _ = split(held.raw)
        message = _read(headers, held.received_at, held.size)
        if not isinstance(message, Message):
            raise Refused(f"mail {held.number} still cannot be read: {message}")
        place = None
        if held.folder is not None and held.uidvalidity is not None and held.uid is not None:
            place = Place(held.folder, held.uidvalidity, held.uid)
        arrival = Arrival(message, None, held.size, held.mailbox, place)
        return self.office.owner_of_mailbox(held.mailbox), IMAP, arrival

    def _released_bcc(self, held: Held, received: Received, owner: str | None) -> tuple[str, Channel, Arrival]:
        who = owner or self.office.owner_of_address(held.author)
        if who is None:
            author = held.author or "nobody"
            raise Refused(f"mail {held.number} is from {author}, who is no user: say whose it is with --owner USER")
        if who not in self.office.settings.users:
            raise Refused(f"there is no user {who!r} in the configuration")
        found = _sort(self.office, received, trusted=True, owner=who)
        if found.arrival is None:
            reason = found.held.error or found.held.reason if found.held else "unknown"
            raise Refused(f"mail {held.number} cannot be filed: {reason}")
        return who, SMART_BCC, found.arrival


class _Rehearsal(Exception):
    """Ends a transaction that was only tried."""


@dataclass(frozen=True, slots=True)
class _Sorted:
    """What is to become of a mail that came by SMTP: one of arrival and held."""

    sent_at: datetime
    owner: str = ""
    arrival: Arrival | None = None
    held: Held | None = None
    author: str = ""
    message_id: str = ""


def _sort(office: Office, received: Received, *, trusted: bool, owner: str | None = None) -> _Sorted:
    """L14, L15: whose mail it is, and who is in it; or why it goes to quarantine."""
    try:
        return _sort_readable(office, received, trusted=trusted, owner=owner)
    except Exception as error:
        log.exception("message could not be read", size=len(received.raw))
        why = f"{type(error).__name__}: {error}"
        held = _unreadable(SMART_BCC, received.raw, received.received_at, len(received.raw), why)
        return _Sorted(received.received_at, held=_in_envelope(held, received))


def _sort_readable(office: Office, received: Received, *, trusted: bool, owner: str | None) -> _Sorted:
    headers, _ = split(received.raw)
    message = _read(headers, received.received_at, len(received.raw))
    if not isinstance(message, Message):
        held = _unreadable(SMART_BCC, received.raw, received.received_at, len(received.raw), message)
        return _Sorted(received.received_at, held=_in_envelope(held, received))
    authors = [each.address for each in message.participants if each.role is Role.FROM]
    author = authors[0] if len(authors) == 1 else ""
    found = _Sorted(message.sent_at, author=author, message_id=message.message_id)
    if not trusted:
        return replace(found, held=_held_from(found, received, UNAUTHENTICATED, "SPF and DKIM are not checked yet"))
    who = owner or office.owner_of_address(author)
    if who is None:
        error = f"{author or 'nobody'} is no user's address"
        return replace(found, held=_held_from(found, received, UNKNOWN_SENDER, error))
    targets = [office.recipient(recipient) for recipient in received.recipients]
    if not any(targets):
        error = "none of its recipients is a Smart Bcc address any more"
        return replace(found, held=_held_from(found, received, "smart_bcc_unknown_recipient", error))
    named = tuple(target.item for target in targets if target is not None and target.item is not None)
    external = any(not office.is_internal(office.compared(each.address)) for each in message.participants)
    visible = any(
        each.role in (Role.TO, Role.CC) and office.recipient(each.address) is not None
        for each in message.participants
    )
    forwarded = () if external else forwarded_addresses(received.raw, office.forwarded)
    arrival = Arrival(
        message,
        received.raw,
        len(received.raw),
        named=named,
        forwarded=tuple((each.address, each.evidence) for each in forwarded),
        content_ids=_content_ids(office, who, message, received.raw),
        is_forward=visible and not external,
    )
    return replace(found, owner=who, arrival=arrival)


def _content_ids(office: Office, owner: str, message: Message, raw: bytes | None) -> tuple[str, ...]:
    """T12: for mail whose From is the owner's, and whose text is at hand."""
    if raw is None or not office.policy.match_rewritten:
        return ()
    authors = [each.address for each in message.participants if each.role is Role.FROM]
    if not any(office.writes_for(author, owner) for author in authors):
        return ()
    try:
        return content_ids(message, raw)
    except Exception:
        log.exception("text could not be read", message_id=message.message_id)
        return ()


def _read(headers: bytes, received_at: datetime, size: int) -> Message | str:
    """The message, or why it could not be read: whatever goes wrong with one mail stops nothing else."""
    try:
        return parse(headers, received_at=received_at, size=size)
    except Exception as error:
        log.exception("message could not be read", size=size)
        return f"{type(error).__name__}: {error}"


def _read_mail(raw: bytes, received_at: datetime | None) -> Message | str:
    headers, _ = split(raw)
    return _read(headers, received_at or _date(raw), len(raw))


def _date(raw: bytes) -> datetime:
    """The time received of mail that says nothing of it: its Date header, or else now."""
    return header_date(split(raw)[0]) or datetime.now(UTC)


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
    )
    return _in_envelope(held, received)


def _in_envelope(held: Held, received: Received) -> Held:
    return replace(held, sender=received.sender, recipients=received.recipients, digest=inbound.digest_of(received))


def _unreadable(channel: str, raw: bytes, received_at: datetime, size: int, error: str = "") -> Held:
    return Held(b"", channel, UNREADABLE, error, "", received_at, size, raw)


def _suspect(channel: str, arrival: Arrival, raw: bytes) -> Held:
    """How a mail would lie in quarantine, were it to fail."""
    message = arrival.message
    return Held(b"", channel, UNREADABLE, "", message.message_id, message.received_at, arrival.size, raw)


def _digest(held: Held, folder: int, uid: int) -> bytes:
    return sha256(b"%d %d " % (folder, uid) + held.raw).digest()


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
