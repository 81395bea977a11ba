"""Mail from files: into a mailbox, all of it placed before its threads are decided; or as if received by SMTP."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

import structlog

from maillinkd.ingest import aside, authors, filing, sieve
from maillinkd.ingest.filing import Arrival, Merged, Order
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.house import SHARED_CHUNK, House, Line
from maillinkd.ingest.office import IMAP, SMART_BCC
from maillinkd.ingest.reading import content_ids, read_headers
from maillinkd.ingest.sorting import SortedBatch, sort
from maillinkd.mail.delivery import Received
from maillinkd.mail.header import body_start, split
from maillinkd.mail.message import Message, header_date
from maillinkd.store import cursors, links, mailroom, quarantine
from maillinkd.store.database import Connection, chunks
from maillinkd.store.quarantine import Held
from maillinkd.worker.parent import WorkerFailed

IMPORT_BYTES = 8 << 20
"""Bytes of mail that an import holds at a time; as much again is read ahead."""

_TURN = 50
"""Mails that are taken from a file in one go, while the database is waited for."""

Mails = Iterable[tuple[bytes, datetime | None]]
"""Bytes and the time received, None where the Date header is all there is."""

log = structlog.get_logger("maillinkd.ingest")


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did."""

    read: int = 0
    new: int = 0
    quarantined: int = 0
    filtered: Mapping[str, int] = field(default_factory=dict)
    """Mails that were left out, by reason."""


class _Mail(NamedTuple):
    """A mail that came as a file."""

    raw: bytes
    received_at: datetime


_Group = list[tuple[_Mail, Message | str]]
"""Mails with what was read of them."""


@dataclass
class _Tally:
    """What an import has come to so far."""

    read: int = 0
    new: int = 0
    quarantined: int = 0
    filtered: Counter[str] = field(default_factory=Counter)
    merged: list[Merged] = field(default_factory=list)


async def import_mail(house: House, mailbox: str, mails: Mails, progress: Callable[[int], None]) -> ImportSummary:
    """Imports whole mails into a mailbox's scope, as one batch (L26): all are placed, then threads are decided.

    Raises KeyError for a mailbox that is not configured, and TemporaryFailure; what was placed by then is decided by
    the next import, or start of the daemon.
    """
    owner = house.office.owner_of_mailbox(mailbox)
    async with house.database.importing():
        tally = _Tally()
        order: Order | None = None
        async for group, more in _read_in_groups(house, mails):
            order = order or (Order.LATER if more else Order.NOW)
            batch, unread = await _gather(house, mailbox, owner, group, order, tally)
            sent = sorted(batch.arrivals, key=lambda number: batch.arrivals[number].message.sent_at)
            tally.quarantined += await aside.file_batch(house, batch, sent, unread)
            tally.read += len(group)
            progress(len(group))
        await _decide_what_was_placed(house, tally.merged)
        await house.note_told()
    return ImportSummary(tally.read, tally.new, tally.quarantined, tally.filtered)


async def _gather(
    house: House, mailbox: str, owner: str, group: _Group, order: Order, tally: _Tally
) -> tuple["_Batch", list[tuple[int, Held]]]:
    """A group to be filed, and those of it that cannot be read."""
    office = house.office
    whole = office.settings.mailboxes[mailbox].store == "full"
    arrivals: dict[int, Arrival] = {}
    unread: list[tuple[int, Held]] = []
    for number, ((raw, received_at), message) in enumerate(group):
        if not isinstance(message, Message):
            unread.append((number, aside.unreadable(raw, received_at, len(raw), message)))
            continue
        kept = raw if whole and not sieve.without_body(office, message) else None
        try:
            ids = await content_ids(house, owner, message, kept)
        except WorkerFailed as error:
            unread.append((number, aside.suspect(message, len(raw), raw, str(error))))
        else:
            arrivals[number] = Arrival(message, kept, len(raw), mailbox, content_ids=ids)
    for _, each in unread:
        log.error("message could not be read", mailbox=mailbox, error=each.error)
    unwanted = sieve.reasons(office, owner, {number: each.message for number, each in arrivals.items()})
    return _Batch(house, mailbox, owner, group, arrivals, unwanted, order, tally), unread


@dataclass(frozen=True, slots=True)
class _Batch:
    """Mails of an import that are filed together, by their place in the group (`aside.Batch`)."""

    house: House
    mailbox: str
    owner: str
    group: _Group
    arrivals: Mapping[int, Arrival]
    unwanted: Mapping[int, sieve.Filtered]
    order: Order
    tally: _Tally

    async def file(
        self, connection: Connection, numbers: Collection[int], held: aside.Numbered, *, done: bool
    ) -> list[Line]:
        unwanted = {number: self.arrivals[number].message for number in numbers if number in self.unwanted}
        out = await sieve.not_stored(connection, self.owner, unwanted)
        filed = await filing.file_messages(
            connection,
            self.house.office,
            self.owner,
            IMAP,
            [self.arrivals[number] for number in numbers if number not in out],
            instance=self.house.instance,
            order=self.order,
        )
        folder = await cursors.imported_folder(connection, self.mailbox) if held else None
        await quarantine.hold(
            connection,
            [replace(each, folder=folder, digest=aside.digest(each)) for _, each in held],
            datetime.now(UTC),
        )
        self.tally.new += filed.stored
        self.tally.filtered.update(str(self.unwanted[number]) for number in out)
        self.tally.merged.extend(filed.merged)
        return filed.lines

    def suspect(self, number: int) -> Held:
        arrival = self.arrivals[number]
        return aside.suspect(arrival.message, arrival.size, self.group[number][0].raw)


async def _read_in_groups(house: House, mails: Mails) -> AsyncIterator[tuple[_Group, bool]]:
    """Mails with what was read of them, and whether there are more: the next group is read meanwhile."""

    async def read() -> tuple[_Group, bool] | None:
        async for group, more in groups:
            headers = [(raw[: body_start(raw, 0, len(raw))], when, len(raw)) for raw, when in group]
            return list(zip(group, await read_headers(house.worker, headers), strict=True)), more
        return None

    groups = _groups(mails, house.chunk())
    coming = asyncio.create_task(read())
    try:
        while (found := await coming) is not None:
            coming = asyncio.create_task(read())
            yield found
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)


async def _groups(mails: Mails, most: int) -> AsyncIterator[tuple[list[_Mail], bool]]:
    """So many together, or as many as `IMPORT_BYTES` hold; and whether there are more. Others get their turn."""
    group: list[_Mail] = []
    size = 0
    for number, (raw, received_at) in enumerate(mails):
        if group and (len(group) == most or size + len(raw) > IMPORT_BYTES):
            yield group, True
            group, size = [], 0
        group.append(_Mail(raw, received_at or _date(raw)))
        size += len(raw)
        if number % _TURN == _TURN - 1:
            await asyncio.sleep(0)
    if group:
        yield group, False


def _date(raw: bytes) -> datetime:
    """The time received of mail that says nothing of it: its Date header, or else now."""
    return header_date(split(raw)[0]) or datetime.now(UTC)


async def finish_imports(house: House) -> None:
    """Decides threads whose messages were placed by an import that was cut off; not while another one is on."""
    async with house.database.importing(patient=False) as ours:
        if ours:
            await _decide_what_was_placed(house)


async def _decide_what_was_placed(house: House, merged: Sequence[Merged] = ()) -> None:
    """`merged`: the threads that the import made one, for their decision lines."""
    async with house.database.reading() as connection:
        labels_of_merged = await links.labels_of(connection, {each.number for each in merged})
    merges = defaultdict[int, list[Merged]](list)
    for each in merged:
        if each.number in labels_of_merged:
            merges[labels_of_merged[each.number]].append(each)
    while True:
        async with house.database.reading() as connection:
            found = await mailroom.undecided_threads(connection, house.chunk())
        if not found:
            return
        by_scope = defaultdict[tuple[str, str], list[int]](list)
        for owner, channel, label in found:
            by_scope[owner, channel].append(label)
        for (owner, channel), labels in by_scope.items():
            async with house.transaction() as connection:
                lines = await filing.decide_undecided(
                    connection,
                    house.office,
                    owner,
                    SMART_BCC if channel == SMART_BCC else IMAP,
                    labels,
                    merges,
                    instance=house.instance,
                )
            house.tell(lines)


async def import_smart_bcc(
    house: House, recipients: Sequence[str], sender: str, mails: Mails, progress: Callable[[int], None]
) -> ImportSummary:
    """Imports mails as if received by SMTP, their sender's authentication taken as passed; in order of sent time.

    So mail to a one-time address confirms its alias (L14).
    Raises Refused for a recipient that is not ours.
    """
    for recipient in recipients:
        if house.office.recipient(recipient) is None:
            raise Refused(f"{recipient} is no Smart Bcc address of this configuration")
    received = [Received(sender, tuple(recipients), raw, received_at or _date(raw)) for raw, received_at in mails]
    async with house.database.reading() as connection:
        asked = await authors.asked_for(connection, house.office, received, datetime.now(UTC))
    found = [await sort(house, each, asked, trusted=True) for each in received]
    found.sort(key=lambda each: each.sent_at)
    new = quarantined = 0
    for group in chunks(found, SHARED_CHUNK):
        batch = SortedBatch(house, dict(enumerate(group)))
        quarantined += await aside.file_batch(house, batch, range(len(group)))
        quarantined += sum(each.held is not None for each in group)
        new += batch.stored
        progress(len(group))
    await house.note_told()
    return ImportSummary(len(found), new, quarantined)
