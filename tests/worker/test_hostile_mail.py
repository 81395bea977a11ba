"""Hostile mail in the worker: each message is dealt with within the time and memory that it has there."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
import pytest_asyncio

from mail.hostile import MAILS
from maillinkd.mail.forward import forwarded_addresses
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, read
from maillinkd.mail.rewritten import content_ids
from maillinkd.worker.child import MEMORY, SECONDS
from maillinkd.worker.parent import Worker

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[Worker]:
    async with Worker() as started:
        yield started


def test_the_worker_is_held_to_what_was_promised() -> None:
    """reliability.md, Figures: 5 s of processor time, 512 MB."""
    assert (SECONDS, MEMORY) == (5, 512 * 1024 * 1024)


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("name", MAILS)
async def test_hostile_mail_is_read_in_the_worker(name: str, worker: Worker) -> None:
    """It raises WorkerFailed where that takes more."""
    raw = MAILS[name]()

    message = await worker.call(read, split(raw)[0], NOW, len(raw))
    found = await worker.call(forwarded_addresses, raw)

    assert isinstance(message, Message)
    assert len(await worker.call(content_ids, message._replace(date=NOW), raw)) in (0, 2)
    assert all("@" in each.address for each in found)
