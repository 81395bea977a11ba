"""One thing is dealt with while the next one is on its way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


@asynccontextmanager
async def ahead(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """What `source` gives, with one waiting and one on its way while the one at hand is dealt with.

    What `source` raises is raised in its place, after what it gave before. When the context is left, `source` is too.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(maxsize=1)

    async def pump() -> None:
        error = None
        try:
            async for item in source:
                await queue.put(item)
        except Exception as caught:  # noqa: BLE001 - handed over to whoever takes
            error = caught
        await queue.put(_End(error))

    async def take() -> AsyncIterator[T]:
        while True:
            item = await queue.get()
            if not isinstance(item, _End):
                yield item
            elif item.error is not None:
                raise item.error
            else:
                return

    task = asyncio.create_task(pump())
    try:
        yield take()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
