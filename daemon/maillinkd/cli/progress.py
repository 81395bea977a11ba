"""How long work shows that it goes on: a bar on a terminal, a log line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

EVERY = 5.0
"""Seconds between two log lines."""

Advance = Callable[[int], None]


@contextmanager
def progress(doing: str, unit: str, total: int | None = None) -> Iterator[Advance]:
    """While the block runs, its work is shown on standard error; it is handed a function to say "so many more".

    To be opened before `open_house`, so that log lines go above the bar.
    """
    if sys.stderr.isatty():
        with _bar(doing, unit, total) as advance:
            yield advance
    else:
        yield _Lines(doing, unit, total).advance


@contextmanager
def _bar(doing: str, unit: str, total: int | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn()]
    count = TextColumn("{task.completed:,.0f}" + (" of {task.total:,.0f}" if total is not None else "") + f" {unit}")
    with Progress(*columns, count, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(doing, total=total)
        yield lambda more: shown.advance(task, more)


class _Lines:
    def __init__(self, doing: str, unit: str, total: int | None) -> None:
        self._doing, self._unit, self._total = doing, unit, total
        self._done = 0
        self._said_at = time.monotonic()

    def advance(self, more: int) -> None:
        self._done += more
        now = time.monotonic()
        if now - self._said_at >= EVERY:
            self._said_at = now
            of = {} if self._total is None else {"of": self._total}
            structlog.get_logger("maillinkd.cli").info(self._doing, **{self._unit: self._done}, **of)
