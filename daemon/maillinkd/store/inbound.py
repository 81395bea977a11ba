"""Mail that was answered with 250 and is not yet filed."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from hashlib import sha256

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.delivery import Received
from maillinkd.store.database import upsert
from maillinkd.store.schema import inbound


@dataclass(frozen=True, slots=True)
class Waiting:
    number: int
    received: Received


def digest_of(received: Received) -> bytes:
    """Equal for the same bytes in the same envelope: a retry after a 250 that was lost."""
    envelope = "\0".join((received.sender, *received.recipients)).encode("utf-8", "surrogateescape")
    return sha256(sha256(envelope).digest() + received.raw).digest()


async def keep(connection: AsyncConnection, received: Sequence[Received]) -> None:
    """Puts the mail on the shelf; what waits there already is not doubled."""
    await upsert(
        connection,
        inbound,
        [
            {
                "digest": digest_of(each),
                "sender": each.sender,
                "recipients": json.dumps(each.recipients),
                "client_address": each.client_address,
                "helo": each.helo,
                "tls": each.tls,
                "received_at": micros(each.received_at),
                "raw": each.raw,
            }
            for each in received
        ],
        key=("digest",),
    )


async def waiting(connection: AsyncConnection, limit: int, after: int = 0) -> list[Waiting]:
    """The mail that waits longest."""
    query = select(inbound).where(inbound.c.id > after).order_by(inbound.c.id).limit(limit)
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
            ),
        )
        for row in await connection.execute(query)
    ]


async def filed(connection: AsyncConnection, numbers: Collection[int]) -> None:
    """Takes mail off the shelf, in the transaction that files it."""
    await connection.execute(delete(inbound).where(inbound.c.id.in_(sorted(numbers))))
