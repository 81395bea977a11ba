"""Decides threads again under today's policy and directory (linking.md L28), or tries another policy (L24)."""

from array import array
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.ingest.desk import Desk, File
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.office import Office
from maillinkd.linker.decision import Origin, Reason, Trigger
from maillinkd.store import items, journal, links, mailroom
from maillinkd.store.database import Connection, chunks
from maillinkd.store.links import ThreadState

PAGE = 500
"""Threads that `simulate` has in memory at once."""


async def threads_to_decide(
    connection: Connection, office: Office, since: datetime | None, item: ItemRef | None
) -> list[int]:
    """The threads (labels) that `decide` is about. Raises Refused for an unknown item."""
    among: set[int] | None = None
    if item is not None:
        known = (await items.read(connection, [item])).get(item)
        if known is None:
            raise Refused(f"there is no {item}")
        persons = [ItemRef(ItemKind.PERSON, known.person)] if known.person else []
        contacts = await items.read(connection, persons)
        addresses = {address for contact in contacts.values() for address in contact.addresses}
        among = await links.threads_with(connection, addresses.union(map(office.compared, addresses)))
        among |= await links.threads_linked(connection, [known.ref, *persons])
    return await links.labels(connection, since=since, among=among)


async def decide(
    connection: Connection, office: Office, threads: Sequence[int], batch: int | None, *, instance: str
) -> tuple[list[dict[str, Any]], int | None]:
    """Decides these threads again, within the transaction of `connection`.

    Returns the decision lines of those that change, and the number of the batch, opened with the first of them.
    """
    lines = []
    for (owner, channel), labels in await mailroom.by_scope(connection, threads):
        scope = await mailroom.lock_scope(connection, owner, channel)
        desk = Desk(connection, scope, office, instance=instance)
        await desk.open(labels)
        changed = [file for file in desk.files.values() if file.letters and _changes(desk, file)]
        if changed and batch is None:
            batch = await journal.open_batch(connection, "decide", "auto", datetime.now(UTC))
        lines += await desk.put_back(changed, batch=batch)
    return lines, batch


def _changes(desk: Desk, file: File) -> bool:
    """Whether today's answer differs from the one that stands; what a hand or an item's address settled, stays."""
    before = file.state
    if before.slot.origin in (Origin.HAND, Origin.SMART_BCC):
        return False
    desk.decide_again(file)
    file.trigger = Trigger.DECIDE
    after = file.state
    if (before.slot.item, before.links) != (after.slot.item, after.links):
        return True
    return after.slot.item is None and (before.reason, before.candidates) != (after.reason, after.candidates)


@dataclass(frozen=True, slots=True)
class Change:
    """What another policy would make of a thread."""

    before: ThreadState
    after: ThreadState
    """Differs in slot, reason, candidates, persons and organizations."""
    owner: str
    channel: str

    @property
    def reasons(self) -> tuple[Reason | None, Reason | None]:
        """Before and after."""
        return self.before.reason, self.after.reason


async def simulate(
    connection: Connection, office: Office, since: datetime | None, progress: Callable[[int], None]
) -> AsyncIterator[Change]:
    """What `decide` would change, were this office in force: the same threads, asked in the same way (L24).

    Reads alone, a handful of statements for each PAGE of threads. `since`: threads whose newest message is not older.
    """
    by_scope: dict[int, array[int]] = {}
    async for some in links.labels_by_scope(connection, since=since):
        for label, scope_id in some:
            by_scope.setdefault(scope_id, array("q")).append(label)
    for scope in await journal.scopes(connection):
        for labels in chunks(by_scope.get(scope.id, array("q")), PAGE):
            desk = Desk(connection, scope, office, instance="")
            await desk.open(labels)
            for file in desk.files.values():
                before = file.state
                if file.letters and _changes(desk, file):
                    yield Change(before, file.state, scope.owner, scope.channel)
            progress(len(labels))
