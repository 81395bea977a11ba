"""Threads that row 13 left empty: their item came after they had started (linking.md L25)."""

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, or_, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import Reason
from maillinkd.linker.snapshot import moment
from maillinkd.store.database import chunks
from maillinkd.store.schema import item as items
from maillinkd.store.schema import link, scope, thread


@dataclass(frozen=True, slots=True)
class Waiting:
    """A thread that row 13 left empty."""

    label: int
    number: int
    started_at: datetime
    candidates: tuple[ItemRef, ...]
    """Those of its last slot decision."""
    persons: tuple[ItemRef, ...]
    organizations: tuple[ItemRef, ...]


async def threads(
    connection: AsyncConnection,
    *,
    owner: str | None = None,
    item: ItemRef | None = None,
    person: ItemRef | None = None,
    among: Collection[int] | None = None,
) -> list[Waiting]:
    """The threads that row 13 left empty, oldest first: of this owner, among these labels.

    With `item` those that have it as a candidate or, with `person`, are linked to that person.
    """
    concerns: ColumnElement[bool] = true()
    if item is not None:
        concerns = func.lower(thread.c.candidates).contains(f'"{item.kind}:{item.key}"', autoescape=True)
    if person is not None:
        linked = select(link.c.thread).where(link.c.kind == person.kind, link.c.key == person.key)
        concerns = or_(concerns, thread.c.id.in_(linked))
    query = (
        select(thread.c.id, thread.c.number, thread.c.started_at, thread.c.candidates)
        .join(scope, scope.c.id == thread.c.scope)
        .where(thread.c.reason == Reason.ITEM_NEWER_THAN_THREAD, concerns)
        .where(true() if owner is None else scope.c.owner == owner)
        .order_by(thread.c.started_at, thread.c.id)
    )
    rows = (await connection.execute(query)).all()
    rows = [row for row in rows if among is None or row.id in among]
    people = await _people_of(connection, [row.id for row in rows])
    return [
        Waiting(
            label=row.id,
            number=row.number or row.id,
            started_at=moment(row.started_at),
            candidates=tuple(map(ItemRef.parse, json.loads(row.candidates))),
            persons=tuple(ref for ref in people[row.id] if ref.kind is ItemKind.PERSON),
            organizations=tuple(ref for ref in people[row.id] if ref.kind is ItemKind.ORGANIZATION),
        )
        for row in rows
    ]


async def _people_of(connection: AsyncConnection, labels: Collection[int]) -> defaultdict[int, list[ItemRef]]:
    """Persons and organizations that these threads are linked to, without deleted ones."""
    found = defaultdict[int, list[ItemRef]](list)
    for some in chunks(sorted(labels)):
        query = (
            select(link.c.thread, link.c.kind, items.c.id)
            .join(items, and_(items.c.kind == link.c.kind, items.c.key == link.c.key))
            .where(link.c.thread.in_(some), link.c.slot.is_(None), items.c.deleted.is_(False))
            .order_by(link.c.kind, link.c.key)
        )
        for row in await connection.execute(query):
            found[row.thread].append(ItemRef(ItemKind(row.kind), row.id))
    return found
