"""One thing is dealt with while the next one is on its way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    error: Exception | None


class Ahead(Generic[T]):
    """What a source gives, one after another, and what of it waits already."""

    def __init__(self, queue: "asyncio.Queue[T | _End]") -> None:
        self._queue = queue
        self._waits: T | _End | None = None
        """The next one, where somebody has looked at it."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item, self._waits = self._waits, None
        if item is None:
            item = await self._queue.get()
        if not isinstance(item, _End):
            return item
        self._waits = item  # nothing comes after it
        if item.error is not None:
            raise item.error
        raise StopAsyncIteration

    def waiting(self) -> T | None:
        """The next one, if it is there; it stays the next one."""
        if self._waits is None and not self._queue.empty():
            self._waits = self._queue.get_nowait()
        return None if isinstance(self._waits, _End) else self._waits


@asynccontextmanager
async def ahead(source: AsyncIterator[T], most: int = 1) -> AsyncIterator[Ahead[T]]:
    """What `source` gives, with `most` waiting and one on its way while the one at hand is dealt with.

    What `source` raises is raised in its place, after what it gave before. When the context is left, `source` is too.
    """
    queue: asyncio.Queue[T | _End] = asyncio.Queue(maxsize=most)

    async def pump() -> None:
        error = None
        try:
            async for item in source:
                await queue.put(item)
        except Exception as caught:  # noqa: BLE001 - handed over to whoever takes
            error = caught
        await queue.put(_End(error))

    task = asyncio.create_task(pump())
    try:
        yield Ahead(queue)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
