"""One thing is dealt with while the next is on its way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from maillinkd.imap.ahead import ahead


class Source:
    """Gives 0, 1, 2 and so on, then raises, if it is to."""

    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.given = 0
        self.closed = False
        self._count = count
        self._error = error

    async def __call__(self) -> AsyncIterator[int]:
        try:
            while self.given < self._count:
                self.given += 1
                yield self.given - 1
            if self._error is not None:
                raise self._error
        finally:
            self.closed = True


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_everything_comes_in_its_order() -> None:
    async with ahead(Source(7)()) as items:
        assert [item async for item in items] == list(range(7))


async def test_two_are_fetched_while_one_is_dealt_with_and_no_more() -> None:
    source = Source(10)
    async with ahead(source()) as items:
        await anext(items)
        await settled()
        assert source.given == 3
        await anext(items)
        await settled()
        assert source.given == 4


async def test_what_waits_can_be_looked_at_and_is_still_the_next() -> None:
    async with ahead(Source(3)(), 2) as items:
        assert items.waiting() is None  # nothing has come yet
        await settled()
        assert [items.waiting(), items.waiting(), await anext(items)] == [0, 0, 0]
        assert [items.waiting(), await anext(items), await anext(items)] == [1, 1, 2]
        await settled()
        assert items.waiting() is None  # the end waits
        assert [item async for item in items] == []
        assert [item async for item in items] == []


async def test_an_error_comes_after_what_was_given_before_it() -> None:
    async with ahead(Source(3, ValueError("broken"))()) as items:
        assert [await anext(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="broken"):
            await anext(items)


@pytest.mark.parametrize("count", [1, 10])
async def test_who_leaves_early_leaves_nothing_running(count: int) -> None:
    """And takes his own error with him."""
    source = Source(count, ValueError("broken"))
    before = asyncio.all_tasks()
    with suppress(KeyError):
        async with ahead(source()) as items:
            await anext(items)
            raise KeyError
    await settled()

    assert asyncio.all_tasks() == before
    assert source.closed
