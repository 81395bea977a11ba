"""Mail of synced mailboxes: the ledger that the IMAP door asks, and what files its batches."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from maillinkd.ingest import aside, filing, sieve
from maillinkd.ingest.filing import Arrival, Order, Place
from maillinkd.ingest.house import House, Line
from maillinkd.ingest.office import IMAP
from maillinkd.ingest.reading import content_ids, read_headers, wants_content_ids
from maillinkd.mail.delivery import Fetched, FolderBatch, FolderCursor, Packed, Parsed, Run, Stand
from maillinkd.mail.message import Message
from maillinkd.store import cursors, gmail, ledger, mailroom, quarantine
from maillinkd.store.database import Connection
from maillinkd.store.quarantine import Held
from maillinkd.worker.parent import WorkerFailed

CHUNK_BYTES = 4 << 20
"""Bytes of whole messages, packed, that are filed in one transaction."""

log = structlog.get_logger("maillinkd.ingest")


class Synced:
    """The ledger of synced mail (`mail.delivery.Ledger`)."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._packing = ThreadPoolExecutor(1, "packing")
        """Each thread that ever packed keeps memory of its own, so there is one."""

    async def cursor(self, mailbox: str, folder: str) -> FolderCursor | None:
        async with self._house.database.reading() as connection:
            cursor = await cursors.cursor(connection, mailbox, folder)
        if self._house.worker is not None and (cursor is None or not cursor.first_sync_done):
            self._house.worker.warm_up()  # there may be much to parse
        return cursor

    async def known_uids(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Collection[int]:
        async with self._house.database.reading() as connection:
            return await cursors.known_uids(connection, mailbox, folder, uidvalidity, low, high)

    async def settled(self, mailbox: str, folder: str, stand: Stand) -> None:
        async with self._house.transaction() as connection:
            await cursors.settle(connection, mailbox, folder, stand)

    async def runs(self, mailbox: str, folder: str, uidvalidity: int, low: int, high: int) -> Sequence[Run]:
        async with self._house.database.reading() as connection:
            return await ledger.runs(connection, mailbox, folder, uidvalidity, low, high)

    async def note_audit(self, mailbox: str, folder: str, missing: int) -> None:
        async with self._house.transaction() as connection:
            await ledger.note_audit(connection, mailbox, folder, missing, datetime.now(UTC))

    def begin_reading(self, messages: Sequence[Fetched]) -> asyncio.Future[Sequence[Parsed]]:
        """Parses and packs what a FETCH brought while other things go on: in the worker, and in a thread."""
        return asyncio.ensure_future(self._prepare(messages))

    async def _prepare(self, messages: Sequence[Fetched]) -> Sequence[Parsed]:
        reading = read_headers(self._house.worker, [(each.headers, each.received_at, each.size) for each in messages])
        raws = {each.uid: each.raw for each in messages if each.raw is not None}
        if not raws:
            return [Parsed(*both, None) for both in zip(messages, await reading, strict=True)]
        packing = asyncio.get_running_loop().run_in_executor(self._packing, mailroom.pack, list(raws.values()))
        read, packed = await asyncio.gather(reading, packing)
        packed_of = dict(zip(raws, packed, strict=True))
        return [
            Parsed(each._replace(raw=None), message, packed_of.get(each.uid))
            for each, message in zip(messages, read, strict=True)
        ]

    async def file(self, batch: FolderBatch) -> None:
        """Files what FETCH brought; the transaction that files the last of it moves the folder's cursor.

        Where a crash comes in between, what was filed is met again and known (T11).
        """
        parsed = await (batch.reading or self.begin_reading(batch.messages))
        slices = _slices(parsed, self._house.chunk()) or [[]]
        for each in slices[:-1]:
            await self._file(batch, each, last=False)
        await self._file(batch, slices[-1], last=True)

    async def _file(self, batch: FolderBatch, mails: Sequence[Parsed], *, last: bool) -> None:
        office = self._house.office
        owner = office.owner_of_mailbox(batch.mailbox)
        read: dict[int, _Read] = {}
        unread: list[tuple[int, Held]] = []
        drafts: set[int] = set()
        for each, message, packed in mails:
            if each.gmail is not None and each.gmail.is_draft:
                drafts.add(each.uid)
                continue
            came = len(each.headers) if packed is None else packed.size
            if isinstance(message, Message) and came:
                read[each.uid] = _Read(each, message, packed, packed)
            else:
                why = message if isinstance(message, str) else "the server does not give it"
                log.error("message could not be read", folder=batch.folder, uid=each.uid, error=why)
                content = _bytes_of(each, packed)
                unread.append((each.uid, aside.unreadable(content, each.received_at, each.size, why)))

        unwanted = sieve.reasons(office, owner, {uid: each.message for uid, each in read.items()})
        for uid, mail in list(read.items()):
            if mail.packed is None:
                continue
            if sieve.without_body(office, mail.message):
                read[uid] = mail._replace(kept=None)
            elif uid not in unwanted and wants_content_ids(office, owner, mail.message):
                raw = mail.packed.unpacked()
                try:
                    ids = await content_ids(self._house, owner, mail.message, raw)
                except WorkerFailed as error:
                    log.error("message could not be read", folder=batch.folder, uid=uid, error=str(error))  # noqa: TRY400
                    unread.append((uid, aside.suspect(mail.message, mail.fetched.size, raw, str(error))))
                    del read[uid]
                else:
                    read[uid] = mail._replace(content_ids=ids)
        slice_ = _Slice(self._house, batch, owner, read, unwanted, drafts, last)
        order = sorted(read, key=lambda uid: read[uid].message.sent_at)
        await aside.file_batch(self._house, slice_, order, unread)


class _Read(NamedTuple):
    """A message that could be read."""

    fetched: Fetched
    message: Message
    packed: Packed | None
    """The whole message, where it came."""
    kept: Packed | None
    """The same, where it is to be kept."""
    content_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Slice:
    """What is filed of a FETCH in one transaction, by UID (`aside.Batch`)."""

    house: House
    batch: FolderBatch
    owner: str
    read: Mapping[int, _Read]
    unwanted: Mapping[int, sieve.Filtered]
    drafts: Collection[int]
    last: bool
    """It ends the batch."""

    async def file(
        self, connection: Connection, numbers: Collection[int], held: aside.Numbered, *, done: bool
    ) -> list[Line]:
        batch, owner = self.batch, self.owner
        accounted: list[tuple[int, int | None, str]] = [(uid, None, cursors.DRAFT) for uid in self.drafts if done]
        done = done and self.last
        folder = await cursors.move(connection, batch.mailbox, batch.folder, batch.cursor if done else None)
        validity = batch.cursor.uidvalidity
        unwanted = {uid: self.read[uid].message for uid in numbers if uid in self.unwanted}
        out = await sieve.not_stored(connection, owner, unwanted)
        wanted = [(uid, self.read[uid]) for uid in numbers if uid not in out]
        marks = {uid: each.fetched.gmail for uid, each in wanted if each.fetched.gmail is not None}
        known = await gmail.known(connection, batch.mailbox, owner, IMAP, marks.values())
        arrivals = [
            Arrival(
                message,
                kept,
                fetched.size,
                batch.mailbox,
                Place(folder, validity, uid),
                content_ids=ids,
                stored_as=known.get(fetched.gmail.message_id) if fetched.gmail is not None else None,
            )
            for uid, (fetched, message, _, kept, ids) in wanted
        ]
        order = Order.FIRST_SYNC if batch.first_sync else Order.NOW
        filed = await filing.file_messages(
            connection, self.house.office, owner, IMAP, arrivals, instance=self.house.instance, order=order
        )
        await quarantine.hold(
            connection,
            [
                replace(each, folder=folder, uidvalidity=validity, uid=uid, digest=aside.digest(each, folder, uid))
                for uid, each in held
            ],
            datetime.now(UTC),
        )
        accounted += [(uid, None, cursors.QUARANTINED) for uid, _ in held]
        accounted += [(uid, None, self.unwanted[uid].disposition) for uid in out]
        await cursors.record(connection, folder, validity, accounted)
        await gmail.record(connection, folder, validity, marks)
        if batch.gone and done:
            await cursors.gone(connection, folder, validity, batch.gone)
        return filed.lines

    def suspect(self, number: int) -> Held:
        mail = self.read[number]
        return aside.suspect(mail.message, mail.fetched.size, _bytes_of(mail.fetched, mail.packed))


def _bytes_of(fetched: Fetched, packed: Packed | None) -> bytes:
    """All that came of a message."""
    return fetched.headers if packed is None else packed.unpacked()


def _slices(mails: Sequence[Parsed], most: int) -> list[Sequence[Parsed]]:
    """Mails that go in together: not too many, and not too large."""
    slices: list[Sequence[Parsed]] = []
    start = size = 0
    for position, each in enumerate(mails):
        weight = 0 if each.packed is None else each.packed.weight
        if position > start and (position - start == most or size + weight > CHUNK_BYTES):
            slices.append(mails[start:position])
            start, size = position, 0
        size += weight
    return [*slices, mails[start:]] if mails else slices
