"""Mail that could not be read, or was not trusted, with its bytes."""

import json
import zlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.verdict import Verdict
from maillinkd.store.cursors import QUARANTINED
from maillinkd.store.database import chunks, upsert
from maillinkd.store.mailroom import storable
from maillinkd.store.schema import folder, occurrence, quarantine, setting

UNKNOWN_SENDER = "smart_bcc_unknown_sender"
UNAUTHENTICATED = "smart_bcc_unauthenticated"
UNREADABLE = "unreadable"

DROPPED = "filtered:quarantine_dropped"
"""What became of a UID whose mail was held and then dropped, by age or by hand."""


@dataclass(frozen=True, slots=True)
class Held:
    """One mail in quarantine."""

    digest: bytes
    """Equal for the same mail in the same envelope or at the same UID: it is held once."""
    channel: str
    reason: str
    error: str
    message_id: str
    received_at: datetime
    size: int
    raw: bytes
    sender: str = ""
    recipients: tuple[str, ...] = ()
    author: str = ""
    folder: int | None = None
    uidvalidity: int | None = None
    uid: int | None = None
    number: int = 0
    held_at: datetime | None = None
    """When it was put there first; None while it is not there."""
    mailbox: str | None = None
    verdict: Verdict | None = None
    """What the check of its author came to, None where it was not asked for."""


async def hold(connection: AsyncConnection, held: Sequence[Held], at: datetime) -> None:
    """Keeps the mail from then on. What is held already is not doubled, nor held longer.

    Synced mail that is met again after UIDVALIDITY has changed stands under the new one.
    """
    await upsert(
        connection,
        quarantine,
        [
            {
                "digest": each.digest,
                "channel": each.channel,
                "reason": each.reason,
                "error": storable(each.error),
                "message_id": storable(each.message_id),
                "received_at": micros(each.received_at),
                "size": each.size,
                "raw": zlib.compress(each.raw),
                "sender": storable(each.sender),
                "recipients": json.dumps(each.recipients),
                "author": storable(each.author),
                "verdict": each.verdict and each.verdict.to_text(),
                "folder": each.folder,
                "uidvalidity": each.uidvalidity,
                "uid": each.uid,
                "held_at": micros(at),
            }
            for each in held
        ],
        key=("digest",),
        update=("uidvalidity",),
    )


async def listing(connection: AsyncConnection) -> list[Held]:
    """All that is held, oldest first."""
    query = _SELECT.order_by(quarantine.c.id)
    return [_held(row) for row in await connection.execute(query)]


async def get(connection: AsyncConnection, number: int) -> Held | None:
    """The mail of this number."""
    row = (await connection.execute(_SELECT.where(quarantine.c.id == number))).first()
    return None if row is None else _held(row)


async def take_out(connection: AsyncConnection, number: int) -> bool:
    """Lets go of the mail of this number, which is about to be filed. False if there is none."""
    result = await connection.execute(delete(quarantine).where(quarantine.c.id == number).returning(quarantine.c.id))
    return result.scalar() is not None


async def drop(connection: AsyncConnection, number: int) -> bool:
    """Forgets the mail of this number, for good; its UID is `DROPPED`. False if there is none."""
    return bool(await _drop(connection, quarantine.c.id == number))


async def count(connection: AsyncConnection) -> int:
    return int((await connection.execute(select(func.count()).select_from(quarantine))).scalar_one())


async def size(connection: AsyncConnection) -> int:
    """Bytes of what is held, as compressed."""
    query = select(func.coalesce(func.sum(func.length(quarantine.c.raw)), 0))
    return int((await connection.execute(query)).scalar_one())


async def reasons(connection: AsyncConnection) -> dict[str, int]:
    """How many there are of each reason."""
    query = select(quarantine.c.reason, func.count()).group_by(quarantine.c.reason).order_by(quarantine.c.reason)
    return {row.reason: row[1] for row in await connection.execute(query)}


async def unreadable(connection: AsyncConnection) -> list[int]:
    """The numbers of mail that could not be read, oldest first."""
    query = select(quarantine.c.id).where(quarantine.c.reason == UNREADABLE).order_by(quarantine.c.id)
    return list((await connection.execute(query)).scalars())


async def change(connection: AsyncConnection, number: int, held: Held) -> None:
    """Says anew why a mail is held, and what is known of it."""
    values = {
        "reason": held.reason,
        "error": storable(held.error),
        "message_id": storable(held.message_id),
        "author": storable(held.author),
    }
    await connection.execute(update(quarantine).where(quarantine.c.id == number).values(values))


async def expire(connection: AsyncConnection, before: datetime) -> dict[str, int]:
    """Drops what has been held since before then, for good, however old the mail. Its UIDs are `DROPPED`.

    Returns how many there were of each reason.
    """
    return dict(Counter(await _drop(connection, quarantine.c.held_at < micros(before))))


async def _drop(connection: AsyncConnection, which: ColumnElement[bool]) -> list[str]:
    """Returns the reason of each."""
    columns = (quarantine.c.reason, quarantine.c.folder, quarantine.c.uidvalidity, quarantine.c.uid)
    rows = (await connection.execute(delete(quarantine).where(which).returning(*columns))).all()
    uids = defaultdict[tuple[int, int], list[int]](list)
    for row in rows:
        if row.uid is not None:
            uids[row.folder, row.uidvalidity].append(row.uid)
    for (number, uidvalidity), found in uids.items():
        for some in chunks(found):
            await connection.execute(
                update(occurrence)
                .where(
                    occurrence.c.folder == number,
                    occurrence.c.uidvalidity == uidvalidity,
                    occurrence.c.uid.in_(some),
                    occurrence.c.disposition == QUARANTINED,  # one that is gone from the server stays so
                )
                .values(disposition=DROPPED)
            )
    return [row.reason for row in rows]


async def tell_today(connection: AsyncConnection, at: datetime) -> bool:
    """Whether nobody has told for a day what is held; then it counts as told."""
    day = (at - timedelta(days=1)).isoformat()
    told = {"name": _TOLD, "value": at.isoformat()}
    await upsert(connection, setting, [told | {"value": ""}])
    statement = update(setting).where(setting.c.name == _TOLD, setting.c.value <= day).values(value=told["value"])
    return (await connection.execute(statement.returning(setting.c.name))).first() is not None


_TOLD = "quarantine_told_at"

_SELECT = select(quarantine, folder.c.mailbox).outerjoin(folder, folder.c.id == quarantine.c.folder)


def _held(row: Any) -> Held:
    return Held(
        digest=row.digest,
        channel=row.channel,
        reason=row.reason,
        error=row.error,
        message_id=row.message_id,
        received_at=moment(row.received_at),
        size=row.size,
        raw=zlib.decompress(row.raw),
        sender=row.sender,
        recipients=tuple(json.loads(row.recipients)),
        author=row.author,
        folder=row.folder,
        uidvalidity=row.uidvalidity,
        uid=row.uid,
        number=row.id,
        held_at=None if row.held_at is None else moment(row.held_at),
        mailbox=row.mailbox,
        verdict=Verdict.of_text(row.verdict) if row.verdict else None,
    )
