"""What hands and the directory change. Long work is one batch of small transactions, which `undo` takes back."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from maillinkd.directory.item import Item, ItemRef
from maillinkd.directory.lines import Change
from maillinkd.ingest import again, catalogue, hand, propose, undo
from maillinkd.ingest.house import House, Line
from maillinkd.ingest.propose import Proposal
from maillinkd.ingest.undo import Left, Undone
from maillinkd.store.database import chunks

DECIDE_CHUNK = 50
"""Threads of a batch that one transaction changes."""


class _Rehearsal(Exception):
    """Ends a transaction that was only tried."""


async def import_items(house: House, changes: Sequence[Change]) -> list[Item]:
    """Applies item lines, in order, and lets threads follow (L6, L10). Returns the items as they are now."""
    async with house.transaction() as connection:
        found, lines = await catalogue.apply(
            connection, house.office, changes, datetime.now(UTC), instance=house.instance
        )
    house.tell(lines)
    return found


async def link(house: House, user: str, threads: Sequence[int], ref: ItemRef) -> list[Line]:
    """Links threads by hand; see ingest.hand.link."""
    async with house.transaction() as connection:
        lines = await hand.link(connection, house.office, user, threads, ref, instance=house.instance)
    house.tell(lines)
    return lines


async def unlink(house: House, user: str, threads: Sequence[int], ref: ItemRef) -> list[Line]:
    """Unlinks threads by hand; see ingest.hand.unlink."""
    async with house.transaction() as connection:
        lines = await hand.unlink(connection, house.office, user, threads, ref, instance=house.instance)
    house.tell(lines)
    return lines


async def undo_batch(house: House, user: str, batch: int, progress: Callable[[int], None]) -> Undone:
    """Takes back a batch of changes, as a batch; see ingest.undo. Raises NotPermitted or Refused."""
    async with house.database.reading() as connection:
        decisions = await undo.decisions_of(connection, house.office, user, batch)
    number: int | None = None
    lines: list[Line] = []
    left: list[Left] = []
    for some in chunks(decisions, DECIDE_CHUNK):
        async with house.transaction() as connection:
            found, number = await undo.undo(connection, house.office, user, some, number, instance=house.instance)
        house.tell(found.lines)
        lines += found.lines
        left += found.left
        progress(len(some))
    await house.note_told()
    return Undone(lines, left)


async def proposals(house: House, item: ItemRef | None, owner: str | None) -> list[Proposal]:
    """L25: threads that might be linked to an item that came later, or without `item` to any open one.

    `owner`: theirs alone. Raises Refused for an item that is unknown, deleted, or no deal, lead or project.
    """
    async with house.database.reading() as connection:
        if item is None:
            return await propose.of_all(connection, house.office, owner)
        return await propose.of_item(connection, house.office, item, owner)


async def link_proposed(
    house: House, user: str, choices: Mapping[int, ItemRef], progress: Callable[[int], None]
) -> list[Line]:
    """Links threads to what was proposed for them, as one batch; see ingest.propose.link.

    Raises NotPermitted, before anything has changed.
    """
    async with house.database.reading() as connection:
        await hand.permitted(connection, house.office, user, choices)
    lines: list[Line] = []
    for some in chunks(list(choices), DECIDE_CHUNK):
        batch = lines[0]["batch"] if lines else None
        chosen = {thread: choices[thread] for thread in some}
        async with house.transaction() as connection:
            found = await propose.link(connection, house.office, user, chosen, batch, instance=house.instance)
        house.tell(found)
        lines += found
        progress(len(some))
    await house.note_told()
    return lines


async def decide(
    house: House, *, since: datetime | None, item: ItemRef | None, dry_run: bool, progress: Callable[[int], None]
) -> list[Line]:
    """L28: decides threads again that no hand has settled, as one batch. Returns the lines of what changes.

    `since`: those whose newest message is not older; `item`: those that are linked to it, or in which its contact
    person takes part. `dry_run` writes nothing. Raises Refused for an unknown item.
    """
    async with house.database.reading() as connection:
        labels = await again.threads_to_decide(connection, house.office, since, item)
    number: int | None = None
    lines: list[Line] = []
    for some in chunks(labels, DECIDE_CHUNK):
        with contextlib.suppress(_Rehearsal):
            async with house.transaction() as connection:
                found, number = await again.decide(connection, house.office, some, number, instance=house.instance)
                if dry_run:
                    number = None
                    raise _Rehearsal
        if not dry_run:
            house.tell(found)
        lines += found
        progress(len(some))
    await house.note_told()
    return lines
