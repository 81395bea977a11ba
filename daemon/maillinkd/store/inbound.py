"""Mail that was answered with 250 and is not yet filed."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256

from sqlalchemy import delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.delivery import Received
from maillinkd.mail.verdict import Verdict
from maillinkd.store.bulk import Insert
from maillinkd.store.database import Database, chunks, upsert
from maillinkd.store.schema import filed_mail, inbound


@dataclass(frozen=True, slots=True)
class Waiting:
    number: int
    received: Received
    tries: int = 0
    """How often its author could not be checked."""


def digest_of(received: Received) -> bytes:
    """Equal for the same bytes in the same envelope: a retry after a 250 that was lost."""
    envelope = "\0".join((received.sender, *received.recipients)).encode("utf-8", "surrogateescape")
    return sha256(sha256(envelope).digest() + received.raw).digest()


async def keep(database: Database, received: Sequence[Received]) -> None:
    """Puts the mail on the shelf; what waits there already is not doubled. It is on disk when this returns.

    Raises what Database.transaction raises.
    """
    rows = [
        (
            digest_of(each),
            each.sender,
            json.dumps(each.recipients),
            each.client_address,
            each.helo,
            each.tls,
            micros(each.received_at),
            each.raw,
            each.relay or None,
            each.verdict and each.verdict.to_text(),
        )
        for each in received
    ]
    await _MAIL.at_once(database, rows)


_MAIL = Insert(
    inbound,
    (
        "digest",
        "sender",
        "recipients",
        "client_address",
        "helo",
        "tls",
        "received_at",
        "raw",
        "relay",
        "verdict",
    ),
    key=("digest",),
)


async def waiting(
    connection: AsyncConnection, limit: int, *, due: datetime | None = None, but: Collection[int] = ()
) -> list[Waiting]:
    """The mail that waits longest: of what is `due`, if that is given, and without these numbers."""
    query = select(inbound).order_by(inbound.c.id).limit(limit)
    if due is not None:
        query = query.where(or_(inbound.c.next_try.is_(None), inbound.c.next_try <= micros(due)))
    if but:
        query = query.where(inbound.c.id.not_in(sorted(but)))
    return [
        Waiting(
            row.id,
            Received(
                sender=row.sender,
                recipients=tuple(json.loads(row.recipients)),
                raw=row.raw,
                received_at=moment(row.received_at),
                client_address=row.client_address,
                helo=row.helo,
                tls=row.tls,
                relay=row.relay or "",
                verdict=Verdict.of_text(row.verdict) if row.verdict else None,
            ),
            row.tries or 0,
        )
        for row in await connection.execute(query)
    ]


async def put_off(connection: AsyncConnection, number: int, tries: int, until: datetime) -> None:
    """Lets a mail wait whose author cannot be checked now."""
    values = {"tries": tries, "next_try": micros(until)}
    await connection.execute(update(inbound).where(inbound.c.id == number).values(values))


async def size(connection: AsyncConnection) -> int:
    """Bytes of the mail that waits."""
    query = select(func.coalesce(func.sum(func.length(inbound.c.raw)), 0))
    return int((await connection.execute(query)).scalar_one())


async def known(connection: AsyncConnection, digests: Collection[bytes]) -> set[bytes]:
    """Of these digests (`digest_of`), those of mail that was filed and remembered."""
    found: set[bytes] = set()
    for some in chunks(sorted(digests)):
        query = select(filed_mail.c.digest).where(filed_mail.c.digest.in_(some))
        found.update((await connection.execute(query)).scalars())
    return found


async def remember(connection: AsyncConnection, digests: Collection[bytes], at: datetime) -> None:
    """Keeps the digests of mail that nothing else tells from its retry, in the transaction that files it."""
    await upsert(connection, filed_mail, [{"digest": each, "at": micros(at)} for each in sorted(digests)])


async def forget(connection: AsyncConnection, before: datetime) -> None:
    """Forgets the digests of mail that was filed before then: nobody sends it again."""
    await connection.execute(delete(filed_mail).where(filed_mail.c.at < micros(before)))


async def filed(connection: AsyncConnection, numbers: Collection[int]) -> None:
    """Takes mail off the shelf, in the transaction that files it."""
    await connection.execute(delete(inbound).where(inbound.c.id.in_(sorted(numbers))))
