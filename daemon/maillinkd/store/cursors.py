"""How far each folder has been read, and what became of every UID."""

import json
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.lines import rfc3339
from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail import delivery
from maillinkd.mail.delivery import FolderCursor, Stand
from maillinkd.store.bulk import Insert
from maillinkd.store.database import chunks, upsert
from maillinkd.store.schema import folder, lease, mailbox_state, message_ref, occurrence
from maillinkd.store.schema import message as messages

STORED = "stored"
QUARANTINED = "quarantined"
GONE = delivery.GONE
DRAFT = "filtered:draft"
"""Gmail's drafts, which lie among the other mail."""
IMPORTED = "(import)"
"""The folder under which mail lies that came from a file: in the mailbox, but in none of the server's folders."""


async def cursor(connection: AsyncConnection, mailbox: str, name: str) -> FolderCursor | None:
    """Where the folder stands, None if it was never read."""
    row = (await connection.execute(select(folder).where(folder.c.mailbox == mailbox, folder.c.name == name))).first()
    if row is None or row.uidvalidity == _NEVER_READ.uidvalidity:
        return None
    return FolderCursor(row.uidvalidity, row.top, row.bottom, row.since, row.before_since, _stand(row))


def _stand(row: Any) -> Stand | None:
    if row.compared_at is None or row.seen_uidvalidity != row.uidvalidity:
        return None
    return Stand(
        row.seen_uidvalidity,
        row.seen_uidnext,
        row.seen_messages,
        row.seen_modseq,
        row.seen_gone_marked,
        moment(row.compared_at),
    )


async def settle(connection: AsyncConnection, mailbox: str, name: str, stand: Stand) -> None:
    """Keeps how a folder stood that is read to the end."""
    await connection.execute(
        folder.update()
        .where(folder.c.mailbox == mailbox, folder.c.name == name)
        .values(
            seen_uidvalidity=stand.uidvalidity,
            seen_uidnext=stand.uidnext,
            seen_messages=stand.messages,
            seen_modseq=stand.modseq,
            seen_gone_marked=stand.gone_marked,
            compared_at=micros(stand.compared_at),
        )
    )


async def known_uids(
    connection: AsyncConnection, mailbox: str, name: str, uidvalidity: int, low: int, high: int
) -> set[int]:
    """UIDs in low..high that have a disposition of their own; one that was gone and is back is to be read."""
    query = (
        select(occurrence.c.uid)
        .join(folder, folder.c.id == occurrence.c.folder)
        .where(
            folder.c.mailbox == mailbox,
            folder.c.name == name,
            occurrence.c.uidvalidity == uidvalidity,
            occurrence.c.uid.between(low, high),
            occurrence.c.disposition != GONE,
        )
    )
    return set((await connection.execute(query)).scalars())


async def move(connection: AsyncConnection, mailbox: str, name: str, to: FolderCursor | None) -> int:
    """Moves the cursor, unless `to` is None, and returns the folder's number.

    A folder whose cursor was never moved counts as never read.
    """
    query = select(folder.c.id).where(folder.c.mailbox == mailbox, folder.c.name == name)
    number = (await connection.execute(query)).scalar()
    values = _row_of(to or _NEVER_READ)
    if number is None:
        new = folder.insert().values(mailbox=mailbox, name=name, **values).returning(folder.c.id)
        number = (await connection.execute(new)).scalar_one()
    elif to is not None:
        await connection.execute(folder.update().where(folder.c.id == number).values(values))
    return int(number)


_NEVER_READ = FolderCursor(uidvalidity=-1, top=0, bottom=0, since=None, before_since=0)


def _row_of(to: FolderCursor) -> dict[str, Any]:
    return {
        "uidvalidity": to.uidvalidity,
        "top": to.top,
        "bottom": to.bottom,
        "since": to.since,
        "before_since": to.before_since,
    }


async def imported_folder(connection: AsyncConnection, mailbox: str) -> int:
    """The folder of a mailbox under which imported mail lies."""
    query = select(folder.c.id).where(folder.c.mailbox == mailbox, folder.c.name == IMPORTED)
    number = (await connection.execute(query)).scalar()
    if number is None:
        number = await move(connection, mailbox, IMPORTED, FolderCursor(0, 0, 0, None, 0))
    return int(number)


async def record(
    connection: AsyncConnection,
    folder_id: int,
    uidvalidity: int,
    found: Sequence[tuple[int, int | None, str]],
) -> None:
    """Writes what became of UIDs: (uid, number of the message or None, disposition). The newest word holds."""
    await _OCCURRENCE(connection, [(folder_id, uidvalidity, *each) for each in found])


_OCCURRENCE = Insert(
    occurrence,
    ("folder", "uidvalidity", "uid", "message", "disposition"),
    key=("folder", "uidvalidity", "uid"),
    update=("message", "disposition"),
)


async def gone(connection: AsyncConnection, folder_id: int, uidvalidity: int, uids: Collection[int]) -> None:
    """The server no longer has these UIDs. What was stored of them stays, and is marked."""
    for some in chunks(sorted(uids)):
        await connection.execute(
            occurrence.update()
            .where(
                occurrence.c.folder == folder_id,
                occurrence.c.uidvalidity == uidvalidity,
                occurrence.c.uid.in_(some),
            )
            .values(disposition=GONE)
        )
        rows = [
            {"folder": folder_id, "uidvalidity": uidvalidity, "uid": uid, "message": None, "disposition": GONE}
            for uid in some
        ]
        await upsert(connection, occurrence, rows)


async def mailboxes_of(
    connection: AsyncConnection, threads: Collection[int], *, decided: bool = False
) -> dict[int, set[str]]:
    """The mailboxes in which the messages of these threads (labels) lie (row 6); `decided`: without those that an
    import has placed and not yet decided."""
    found: dict[int, set[str]] = {}
    for some in chunks(sorted(threads)):
        query = (
            select(message_ref.c.thread, folder.c.mailbox)
            .join(messages, messages.c.node == message_ref.c.node)
            .join(occurrence, occurrence.c.message == messages.c.id)
            .join(folder, folder.c.id == occurrence.c.folder)
            .where(message_ref.c.thread.in_(some))
            .distinct()
        )
        if decided:
            query = query.where(messages.c.undecided.is_(False))
        for row in await connection.execute(query):
            found.setdefault(row.thread, set()).add(row.mailbox)
    return found


async def folders(connection: AsyncConnection) -> list[dict[str, Any]]:
    """Every folder that was read, by mailbox and name."""
    query = (
        select(folder)
        .where(folder.c.name != IMPORTED, folder.c.uidvalidity >= 0)
        .order_by(folder.c.mailbox, folder.c.name)
    )
    return [
        {
            "mailbox": row.mailbox,
            "folder": row.name,
            "uidvalidity": row.uidvalidity,
            "top": row.top,
            "first_sync_done": row.bottom == 0,
            "since": row.since and row.since.isoformat(),
            "missing": row.missing,
            "audited_at": None if row.audited_at is None else rfc3339(moment(row.audited_at)),
        }
        for row in await connection.execute(query)
    ]


async def report(connection: AsyncConnection, mailbox: str, state: Mapping[str, Any], at: datetime) -> None:
    """Keeps what a mailbox is doing, for `status`."""
    row = {"mailbox": mailbox, "state": json.dumps(state), "at": micros(at)}
    await upsert(connection, mailbox_state, [row], update=("state", "at"))


async def report_of(connection: AsyncConnection, mailbox: str) -> dict[str, Any]:
    """What one mailbox was doing last; empty if it never said."""
    query = select(mailbox_state.c.state).where(mailbox_state.c.mailbox == mailbox)
    found = (await connection.execute(query)).scalar()
    return {} if found is None else dict(json.loads(found))


async def reports(connection: AsyncConnection) -> dict[str, dict[str, Any]]:
    """What each mailbox was doing last."""
    return {row.mailbox: json.loads(row.state) for row in await connection.execute(select(mailbox_state))}


async def take_lease(
    connection: AsyncConnection, name: str, holder: str, at: datetime, until: datetime
) -> str | None:
    """Takes or renews a lease, in a transaction that writes. Returns None, or who else holds it."""
    row = (await connection.execute(select(lease).where(lease.c.name == name).with_for_update())).first()
    if row is None:
        await upsert(connection, lease, [{"name": name, "holder": holder, "epoch": 1, "until": micros(until)}])
        row = (await connection.execute(select(lease).where(lease.c.name == name))).one()
        return None if row.holder == holder else str(row.holder)
    if row.holder != holder and row.until > micros(at):
        return str(row.holder)
    epoch = row.epoch if row.holder == holder else row.epoch + 1
    await connection.execute(
        lease.update().where(lease.c.name == name).values(holder=holder, epoch=epoch, until=micros(until))
    )
    return None


async def drop_lease(connection: AsyncConnection, name: str, holder: str) -> None:
    """Gives a lease back."""
    await connection.execute(lease.delete().where(lease.c.name == name, lease.c.holder == holder))


async def renew_leases(connection: AsyncConnection, holder: str, until: datetime) -> set[str]:
    """Renews all leases of a holder, and returns their names."""
    renewed = lease.update().where(lease.c.holder == holder).values(until=micros(until)).returning(lease.c.name)
    return set((await connection.execute(renewed)).scalars())
