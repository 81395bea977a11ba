"""Mail that could not be read, or was not trusted, with its bytes."""

import json
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.verdict import Verdict
from maillinkd.store.database import upsert
from maillinkd.store.mailroom import storable
from maillinkd.store.schema import folder, quarantine, setting

UNKNOWN_SENDER = "smart_bcc_unknown_sender"
UNAUTHENTICATED = "smart_bcc_unauthenticated"
UNREADABLE = "unreadable"


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
    mailbox: str | None = None
    verdict: Verdict | None = None
    """What the check of its author came to, None where it was not asked for."""


async def hold(connection: AsyncConnection, held: Sequence[Held]) -> None:
    """Keeps the mail; what is held already is not doubled."""
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
            }
            for each in held
        ],
        key=("digest",),
    )


async def listing(connection: AsyncConnection) -> list[Held]:
    """All that is held, oldest first."""
    query = _SELECT.order_by(quarantine.c.id)
    return [_held(row) for row in await connection.execute(query)]


async def get(connection: AsyncConnection, number: int) -> Held | None:
    """The mail of this number."""
    row = (await connection.execute(_SELECT.where(quarantine.c.id == number))).first()
    return None if row is None else _held(row)


async def drop(connection: AsyncConnection, number: int) -> bool:
    """Forgets the mail of this number, for good. False if there is none."""
    result = await connection.execute(delete(quarantine).where(quarantine.c.id == number).returning(quarantine.c.id))
    return result.scalar() is not None


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
    """Drops what was received before then, for good. Returns how many there were of each reason."""
    statement = delete(quarantine).where(quarantine.c.received_at < micros(before)).returning(quarantine.c.reason)
    return dict(Counter((await connection.execute(statement)).scalars()))


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
        mailbox=row.mailbox,
        verdict=Verdict.of_text(row.verdict) if row.verdict else None,
    )
