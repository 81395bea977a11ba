"""What became of UIDs, in runs: for audits, where a row each would be too many."""

from datetime import datetime

from sqlalchemy import and_, case, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros
from maillinkd.mail.delivery import LOST, Run
from maillinkd.store.cursors import STORED
from maillinkd.store.schema import folder, message, occurrence


async def runs(
    connection: AsyncConnection, mailbox: str, name: str, uidvalidity: int, low: int, high: int
) -> list[Run]:
    """The dispositions of the UIDs in low..high, ascending; `LOST` where a stored message has no row of its own."""
    word = case(
        (and_(occurrence.c.disposition == STORED, message.c.id.is_(None)), LOST), else_=occurrence.c.disposition
    )
    rows = (
        select(occurrence.c.uid, word.label("word"))
        .join(folder, folder.c.id == occurrence.c.folder)
        .outerjoin(message, message.c.id == occurrence.c.message)
        .where(
            folder.c.mailbox == mailbox,
            folder.c.name == name,
            occurrence.c.uidvalidity == uidvalidity,
            occurrence.c.uid.between(low, high),
        )
        .subquery()
    )
    # Of UIDs that follow each other with the same word, the UID less its place among those of that word is the same.
    place = func.row_number().over(partition_by=rows.c.word, order_by=rows.c.uid)
    islands = select(rows.c.uid, rows.c.word, (rows.c.uid - place).label("island")).subquery()
    first = func.min(islands.c.uid)
    query = (
        select(first, func.max(islands.c.uid), islands.c.word)
        .group_by(islands.c.word, islands.c.island)
        .order_by(first)
    )
    return [Run(*row) for row in await connection.execute(query)]


async def note_audit(connection: AsyncConnection, mailbox: str, name: str, missing: int, at: datetime) -> None:
    """Keeps when a folder was audited last, and how many UIDs were missing. Nothing, if it was never read."""
    await connection.execute(
        folder.update()
        .where(folder.c.mailbox == mailbox, folder.c.name == name)
        .values(audited_at=micros(at), missing=missing)
    )
