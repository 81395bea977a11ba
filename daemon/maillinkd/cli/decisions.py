"""`decisions`: the journal, also as a tail. `decide`: decides threads again."""

import asyncio
import contextlib
import select
import signal
import sys
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.store.database import Database

POLL = 0.25
"""Seconds between two looks at the journal."""
PATIENCE = 60.0
"""Seconds for which a number that is missing in the journal is looked for: its transaction may still be open."""
MISSED = 1_000
"""How many missing numbers are looked for at once, the highest ones."""
PAGE = 1_000

Line = dict[str, Any]


def add_to(root: typer.Typer) -> None:
    command(
        root, "decisions", "maillinkd decisions --since 24h --reason no_known_person", "maillinkd decisions --follow"
    )(decisions)
    command(root, "decide", "maillinkd decide --since 30d --dry-run", "maillinkd decide --item deal:61")(decide)


async def decisions(
    given: Given,
    follow: Annotated[bool, typer.Option("--follow", help="Go on with those to come, until Ctrl-C.")] = False,
    after: Annotated[str, typer.Option(metavar="N", help="Those with a higher number.")] = "0",
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Not older: 2026-01-05T09:00:00Z, a date, or 24h, 30d.")
    ] = None,
    reason: Annotated[
        str | None, typer.Option(metavar="REASON", help="With this reason, such as linked_single_open_item.")
    ] = None,
) -> None:
    """Prints the journal of decisions, oldest first: one line each, as the log has them."""
    from maillinkd.app import open_house
    from maillinkd.store import journal

    start = values.moment(since) if since is not None else None
    newest = values.number(after, "decision", "`maillinkd decisions` shows it", least=0)
    if reason is not None:
        _check_reason(reason)
    async with open_house(given.settings(), decides=False) as house:
        if follow:
            await _follow(given, house.database, newest, start, reason)
            return
        while True:
            async with house.database.reading() as connection:
                found = await journal.lines(connection, after=newest, since=start, reason=reason, limit=PAGE)
            for line in found:
                say_decision(given, line)
            if len(found) < PAGE:
                return
            newest = found[-1]["decision"]


def _check_reason(reason: str) -> None:
    from maillinkd.linker.decision import Reason

    if reason not in Reason.__members__.values():
        raise typer.BadParameter(f"--reason: expected one of {', '.join(Reason)}, not {reason!r}")


def say_decision(given: Given, line: Line) -> None:
    """Prints a decision: as JSON, or for a person."""
    from maillinkd.cli import output
    from maillinkd.logs import decision_text

    if given.json:
        output.say_json(line)
    else:
        output.say(f"{line['decision']!s:>6}  {line['timestamp'][:10]} {decision_text(line)}")


def rehearsed(line: Line, **instead: Any) -> Line:
    """The line of a decision that a dry run would come to: without the numbers that only a real one gives out."""
    kept = {name: value for name, value in line.items() if name != "batch"}
    return kept | {"decision": None, "dry_run": True} | instead


async def _follow(given: Given, database: "Database", after: int, since: datetime | None, reason: str | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tail = Tail(after)
    while not stop.is_set() and not _reader_is_gone():
        found = await tail.look(database, loop.time())
        for line in found:
            if (reason is None or line["reason"] == reason) and (since is None or _at(line) >= since):
                say_decision(given, line)
        if len(found) < PAGE:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), POLL)


def _at(line: Line) -> datetime:
    return datetime.fromisoformat(line["timestamp"])


def _reader_is_gone() -> bool:
    """Whether nobody reads the pipe any more to which we print: without new decisions we would never notice."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # no file at all
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Tail:
    """The decisions after a number, as they come.

    Numbers are given out before the transactions that use them end. So on PostgreSQL a lower number may appear after
    a higher one; those that are missing are looked for until they have been missing for PATIENCE.
    """

    def __init__(self, after: int) -> None:
        self._after = after
        self._missing: dict[int, float] = {}
        """Number to the time at which it was first missed."""

    async def look(self, database: "Database", now: float) -> list[Line]:
        """What is new since the last look, in order of the numbers; at most PAGE of the highest numbers at once."""
        from maillinkd.store import journal

        self._missing = {number: at for number, at in self._missing.items() if now - at < PATIENCE}
        async with database.reading() as connection:
            late = await journal.lines(connection, among=list(self._missing), limit=MISSED) if self._missing else []
            new = await journal.lines(connection, after=self._after, limit=PAGE)
            newest = await journal.newest(connection)
        self._miss([line["decision"] for line in new], newest, now)
        for line in late:
            self._missing.pop(line["decision"], None)
        return late + new

    def _miss(self, numbers: Iterable[int], newest: int, now: float) -> None:
        """Notes the gaps; one that lies far behind the newest decision will not be filled any more."""
        for number in numbers:
            gap = range(max(self._after + 1, newest - MISSED), number)
            self._missing |= dict.fromkeys(gap, now)
            self._after = number
        for number in sorted(self._missing)[:-MISSED]:
            del self._missing[number]


async def decide(
    given: Given,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Threads with mail since then: 2026-01-05T09:00:00Z, a date, or 24h, 30d."),
    ] = None,
    item: Annotated[
        str | None,
        typer.Option(metavar="KIND:ID", help="Threads of this item and of its contact person."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would change, and change nothing.")] = False,
) -> None:
    """Decides threads again that no hand has settled, under today's policy and directory, as one batch.

    For use after items were imported late, or the policy was changed.
    """
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.cli.importing import INSTANCE
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import changes

    start = values.moment(since) if since is not None else None
    ref = values.item(item) if item is not None else None
    settings = given.settings()
    looked_at = 0
    with progress("deciding", "threads") as advance:

        def count(more: int) -> None:
            nonlocal looked_at
            looked_at += more
            advance(more)

        async with open_house(settings, instance=INSTANCE, decides=not dry_run) as house:
            lines = await changes.decide(house, since=start, item=ref, dry_run=dry_run, progress=count)
    if given.json:
        for line in lines:
            output.say_json(rehearsed(line) if dry_run else line)
        return
    output.table(
        ("#thread", "slot before", "slot", "reason", "candidates", "persons"),
        (
            (line["thread"], line["slot_before"], line["slot"], line["reason"], line["candidates"], line["persons"])
            for line in lines
        ),
        nothing="nothing changes",
    )
    output.say(f"{len(lines)} of {looked_at} threads " + ("would change" if dry_run else "changed"))
