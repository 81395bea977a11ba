"""What is looked after while the daemon runs: quarantine, how full and how old it is, and a line a day."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from maillinkd.ingest.house import House
from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.store import inbound, quarantine
from maillinkd.store.database import Connection

LOOK = 5.0
"""Seconds between two looks at how much is held."""
TIDY = timedelta(hours=1)
REMEMBERED = timedelta(days=30)
"""How long a retry of mail without Message-ID and Date is known. Senders give up after five days or so (RFC 5321,
4.5.4.1)."""

log = structlog.get_logger("maillinkd.upkeep")


class Upkeep:
    """Keeps quarantine within its limits."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._held = 0
        self._taken_then = 0
        self._taken = 0
        self._tidy_at: datetime | None = None

    async def run(self) -> None:
        """Looks after it until cancelled."""
        while True:
            try:
                await self.look(datetime.now(UTC))
            except TemporaryFailure as failure:
                log.warning("quarantine cannot be looked after", error=str(failure))
            await asyncio.sleep(LOOK)

    async def look(self, now: datetime) -> None:
        """Measures what is held; once an hour drops what is too old, once a day says what there is.

        Raises TemporaryFailure.
        """
        taken = self._taken
        async with self._house.database.reading() as connection:
            self._held = await quarantine.size(connection) + await inbound.size(connection)
        self._taken_then = taken
        if self._tidy_at is None or now >= self._tidy_at:
            await self.tidy(now)
            self._tidy_at = now + TIDY

    def is_full(self, taken: int) -> bool:
        """Whether quarantine has no room for mail of those who are no users.

        `taken`: octets that came by SMTP since the start. What came after the last look counts as if it were held,
        so that no flood overtakes us.
        """
        self._taken = taken
        return self._held + taken - self._taken_then >= self._house.office.settings.quarantine.max_size

    async def tidy(self, now: datetime) -> None:
        """Drops what is too old, and tells once a day, whichever process is first. Raises TemporaryFailure."""
        days = self._house.office.settings.quarantine.keep_days
        async with self._house.database.transaction() as connection:
            dropped = await quarantine.expire(connection, now - timedelta(days=days)) if days else {}
            await inbound.forget(connection, now - REMEMBERED)
            summary = await _summary(connection) if await quarantine.tell_today(connection, now) else None
        if dropped:
            log.warning("quarantine dropped old mail", older_than_days=days, reasons=dropped)
        if summary:
            log.info("quarantine holds", **summary)


async def _summary(connection: Connection) -> dict[str, Any] | None:
    reasons = await quarantine.reasons(connection)
    if not reasons:
        return None
    return {"mails": sum(reasons.values()), "bytes": await quarantine.size(connection), "reasons": reasons}
