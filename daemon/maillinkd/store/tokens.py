"""Mailboxes' OAuth tokens, encrypted by whoever keeps them: here they are bytes."""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.snapshot import micros
from maillinkd.store.database import upsert
from maillinkd.store.schema import oauth_token


async def kept(connection: AsyncConnection, mailbox: str) -> bytes | None:
    """What is kept for a mailbox, None if nothing is."""
    query = select(oauth_token.c.sealed).where(oauth_token.c.mailbox == mailbox)
    found = (await connection.execute(query)).scalar()
    return None if found is None else bytes(found)


async def keep(connection: AsyncConnection, mailbox: str, sealed: bytes, at: datetime) -> None:
    """Puts this in the place of what was kept, in one statement: there is always the one or the other."""
    row = {"mailbox": mailbox, "sealed": sealed, "at": micros(at)}
    await upsert(connection, oauth_token, [row], update=("sealed", "at"))


async def forget(connection: AsyncConnection, mailbox: str) -> bool:
    """Forgets what is kept for a mailbox; False if nothing was."""
    gone = oauth_token.delete().where(oauth_token.c.mailbox == mailbox).returning(oauth_token.c.mailbox)
    return (await connection.execute(gone)).first() is not None


async def mailboxes(connection: AsyncConnection) -> list[str]:
    """The mailboxes for which something is kept, also those that are no longer configured."""
    query = select(oauth_token.c.mailbox).order_by(oauth_token.c.mailbox)
    return list((await connection.execute(query)).scalars())
