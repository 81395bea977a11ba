"""What Gmail alone says of messages: its numbers, its conversation, the labels. Other mail has no rows here."""

import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.mail.delivery import GmailMarks
from maillinkd.store.bulk import Insert
from maillinkd.store.database import chunks
from maillinkd.store.schema import folder, gmail, message, occurrence, scope

_SIGN = 1 << 63


@dataclass(frozen=True, slots=True)
class Labelled:
    """What Gmail says of a stored message, of all places in which it lies together."""

    labels: tuple[str, ...] = ()
    """As they were when the message was fetched, by name."""
    thread: int | None = None
    """X-GM-THRID, to be shown and to join nothing (threading.md T14)."""


_GMAIL = Insert(
    gmail,
    ("folder", "uidvalidity", "uid", "message_id", "thread_id", "labels"),
    key=("folder", "uidvalidity", "uid"),
    update=("message_id", "thread_id", "labels"),
)


async def record(
    connection: AsyncConnection, folder_id: int, uidvalidity: int, marks: Mapping[int, GmailMarks]
) -> None:
    """Keeps what Gmail says of these UIDs."""
    rows = [
        (
            folder_id,
            uidvalidity,
            uid,
            _signed(each.message_id),
            _signed(each.thread_id),
            json.dumps(each.labels, ensure_ascii=False),
        )
        for uid, each in marks.items()
    ]
    await _GMAIL(connection, rows)


async def known(
    connection: AsyncConnection, mailbox: str, owner: str, channel: str, marks: Collection[GmailMarks]
) -> dict[int, int]:
    """Of these, those whose message the mailbox has brought into this scope: X-GM-MSGID to the message's number."""
    found: dict[int, int] = {}
    for some in chunks(sorted({_signed(each.message_id) for each in marks})):
        query = (
            select(gmail.c.message_id, occurrence.c.message)
            .join(folder, folder.c.id == gmail.c.folder)
            .join(
                occurrence,
                (occurrence.c.folder == gmail.c.folder)
                & (occurrence.c.uidvalidity == gmail.c.uidvalidity)
                & (occurrence.c.uid == gmail.c.uid),
            )
            .join(message, message.c.id == occurrence.c.message)
            .join(scope, scope.c.id == message.c.scope)
            .where(
                gmail.c.message_id.in_(some),
                folder.c.mailbox == mailbox,
                scope.c.owner == owner,
                scope.c.channel == channel,
            )
        )
        found |= {_unsigned(number): stored for number, stored in await connection.execute(query)}
    return found


async def of_messages(connection: AsyncConnection, messages: Sequence[int]) -> dict[int, Labelled]:
    """By number of a message: what Gmail said of it, where it lies in Gmail."""
    labels: defaultdict[int, set[str]] = defaultdict(set)
    threads: dict[int, int] = {}
    for some in chunks(messages):
        query = (
            select(occurrence.c.message, gmail.c.labels, gmail.c.thread_id)
            .join(
                gmail,
                (occurrence.c.folder == gmail.c.folder)
                & (occurrence.c.uidvalidity == gmail.c.uidvalidity)
                & (occurrence.c.uid == gmail.c.uid),
            )
            .where(occurrence.c.message.in_(some))
        )
        for number, said, thread in await connection.execute(query):
            labels[number].update(json.loads(said))
            threads[number] = _unsigned(thread)
    return {number: Labelled(tuple(sorted(said)), threads[number] or None) for number, said in labels.items()}


def _signed(number: int) -> int:
    """64 bits without sign, as the columns take them."""
    return number - (_SIGN << 1) if number >= _SIGN else number


def _unsigned(number: int) -> int:
    return number + (_SIGN << 1) if number < 0 else number
