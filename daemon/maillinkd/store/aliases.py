"""Users' further addresses that were confirmed by mail, and those that wait for it (linking.md L14)."""

import secrets
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros, moment
from maillinkd.store.database import Database, upsert
from maillinkd.store.schema import alias, setting

_KEY = "alias_key"
_KEY_OCTETS = 32


@dataclass(frozen=True, slots=True)
class Alias:
    """One address. Normalised, as the policy compares it."""

    address: str
    user: str
    expires_at: datetime | None
    """Until when the mail may come that confirms it; None once it is confirmed."""
    confirmed_at: datetime | None


async def key(database: Database) -> bytes:
    """What one-time addresses are signed with; made when it is first asked for. Raises TemporaryFailure."""
    query = select(setting.c.value).where(setting.c.name == _KEY)
    async with database.reading() as connection:
        found = (await connection.execute(query)).scalar()
    if found is None:
        async with database.transaction() as connection:
            await upsert(connection, setting, [{"name": _KEY, "value": secrets.token_hex(_KEY_OCTETS)}])
            found = (await connection.execute(query)).scalar_one()
    return bytes.fromhex(found)


async def ask(connection: AsyncConnection, address: str, user: str, token: str, expires_at: datetime) -> bool:
    """Notes that an address waits for mail at the one-time address of this token; an earlier one is void.

    False where it is confirmed already.
    """
    known = (await connection.execute(select(alias.c.confirmed_at).where(alias.c.address == address))).first()
    if known is not None and known.confirmed_at is not None:
        return False
    await connection.execute(delete(alias).where(alias.c.address == address))
    row = {"address": address, "owner": user, "token": _digest(token), "expires_at": micros(expires_at)}
    await connection.execute(insert(alias).values(row))
    return True


async def asked(connection: AsyncConnection, token: str) -> Alias | None:
    """The address that waits for mail at the one-time address of this token; None if it was used, or is void."""
    row = (await connection.execute(_SELECT.where(alias.c.token == _digest(token)))).first()
    return None if row is None else _alias(row)


async def confirm(connection: AsyncConnection, address: str, at: datetime) -> None:
    """The address is its user's from now on, and its one-time address is used."""
    values = {"confirmed_at": micros(at), "token": None, "expires_at": None}
    await connection.execute(update(alias).where(alias.c.address == address).values(values))


async def remove(connection: AsyncConnection, address: str) -> bool:
    """Forgets an address, confirmed or not; False if it is not known."""
    gone = delete(alias).where(alias.c.address == address).returning(alias.c.address)
    return (await connection.execute(gone)).first() is not None


async def listing(connection: AsyncConnection) -> list[Alias]:
    """All of them, by address."""
    return [_alias(row) for row in await connection.execute(_SELECT.order_by(alias.c.address))]


async def confirmed(connection: AsyncConnection) -> dict[str, str]:
    """The users of the confirmed ones."""
    query = select(alias.c.address, alias.c.owner).where(alias.c.confirmed_at.is_not(None))
    return {row.address: row.owner for row in await connection.execute(query)}


_SELECT = select(alias.c.address, alias.c.owner, alias.c.expires_at, alias.c.confirmed_at)


def _alias(row: Any) -> Alias:
    address, user, expires_at, confirmed_at = row
    return Alias(address, user, expires_at and moment(expires_at), confirmed_at and moment(confirmed_at))


def _digest(token: str) -> bytes:
    return sha256(token.encode()).digest()
