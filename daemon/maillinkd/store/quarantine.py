"""Mail that could not be read, or was not trusted, with its bytes."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros, moment
from maillinkd.store.database import upsert
from maillinkd.store.mailroom import storable
from maillinkd.store.schema import folder, quarantine

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
    )
