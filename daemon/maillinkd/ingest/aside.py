"""Mails are filed together. One that fails alone is set aside in quarantine, with its bytes and the error."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Protocol

import structlog

from maillinkd.ingest.hand import Refused
from maillinkd.ingest.house import House, Line
from maillinkd.ingest.office import IMAP
from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.mail.message import Message
from maillinkd.store.database import Connection
from maillinkd.store.quarantine import UNREADABLE, Held

Numbered = Sequence[tuple[int, Held]]
"""Mail for quarantine, by its number in the batch."""

log = structlog.get_logger("maillinkd.ingest")


class Batch(Protocol):
    """Mails that are filed in one transaction, by numbers of the batch's own."""

    async def file(
        self, connection: Connection, numbers: Collection[int], held: Numbered, *, done: bool
    ) -> list[Line]:
        """Within a transaction, files the mails of these numbers and holds others. Returns the decision lines.

        `done`: this transaction ends the batch.
        """

    def suspect(self, number: int) -> Held:
        """How this mail lies in quarantine, should it fail."""


async def file_batch(house: House, batch: Batch, numbers: Sequence[int], held: Numbered = ()) -> int:
    """Files a batch in one transaction, and tells what was decided. Returns how many mails were set aside.

    Where it fails by a fault of ours, each mail is filed by itself, in the order of `numbers`: one that fails goes to
    quarantine with the error, the others go through. `held`: mail that goes there anyway.

    Raises TemporaryFailure and Refused; what failed by then is not filed.
    """
    try:
        async with house.transaction() as connection:
            lines = await batch.file(connection, numbers, held, done=True)
    except (TemporaryFailure, Refused):
        raise
    except Exception:
        if not numbers:
            raise
        log.exception("batch failed; filing its mails one by one", messages=len(numbers))
    else:
        house.tell(lines)
        return len(held)
    bad = list(held)
    for number in numbers:
        try:
            async with house.transaction() as connection:
                lines = await batch.file(connection, (number,), (), done=False)
        except TemporaryFailure:
            raise
        except Exception as error:
            found = batch.suspect(number)
            log.exception("mail set aside", message_id=found.message_id)
            bad.append((number, replace(found, error=f"{type(error).__name__}: {error}")))
        else:
            house.tell(lines)
    async with house.transaction() as connection:
        lines = await batch.file(connection, (), bad, done=True)
    house.tell(lines)
    return len(bad)


def unreadable(raw: bytes, received_at: datetime, size: int, error: str) -> Held:
    """How synced mail lies in quarantine of which no header could be read."""
    return Held(b"", IMAP, UNREADABLE, error, "", received_at, size, raw)


def suspect(message: Message, size: int, raw: bytes, error: str = "") -> Held:
    """How synced mail lies there that failed later."""
    return Held(b"", IMAP, UNREADABLE, error, message.message_id, message.received_at, size, raw)


def digest(held: Held, folder: int = 0, uid: int = 0) -> bytes:
    """By which synced mail is known that is held already: that of the same bytes at the same UID."""
    return sha256(b"%d %d " % (folder, uid) + held.raw).digest()
