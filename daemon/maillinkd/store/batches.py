"""Batches of decisions, as `undo` needs them (linking.md L20)."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.store import journal
from maillinkd.store.database import chunks
from maillinkd.store.schema import batch as batches
from maillinkd.store.schema import decision, scope, thread, thread_alias

UNDO = "undo"
"""The command of a batch that takes another one back."""


@dataclass(frozen=True, slots=True)
class Made:
    """A decision of a batch."""

    number: int
    thread: int
    """The number that the thread had then."""
    owner: str
    channel: str


@dataclass(frozen=True, slots=True)
class Later:
    """A decision about a thread that came after another one."""

    number: int
    thread: int
    trigger: str
    actor: str
    batch: int | None
    undoes: int | None
    """The decision that it took back."""


async def command_of(connection: AsyncConnection, number: int) -> str | None:
    """The command that made a batch; for an undo the one that made what was undone first. None: no such batch."""
    while True:
        query = select(batches.c.command).where(batches.c.id == number)
        command = (await connection.execute(query)).scalar()
        if command != UNDO:
            return command
        query = select(decision.c.line).where(decision.c.batch == number).limit(1)
        undone = json.loads((await connection.execute(query)).scalar_one())["undoes"]
        number = (await connection.execute(select(decision.c.batch).where(decision.c.id == undone))).scalar_one()


async def made_by(connection: AsyncConnection, number: int) -> list[Made]:
    """The decisions of a batch, in order."""
    query = (
        select(decision.c.id, decision.c.thread, scope.c.owner, scope.c.channel)
        .join(scope, scope.c.id == decision.c.scope)
        .where(decision.c.batch == number)
        .order_by(decision.c.id)
    )
    return [Made(row.id, row.thread, row.owner, row.channel) for row in await connection.execute(query)]


async def facts_of(connection: AsyncConnection, decisions: Collection[int]) -> dict[int, Mapping[str, Any] | None]:
    """What these decisions looked at; None where it was erased."""
    found: dict[int, Mapping[str, Any] | None] = {}
    for some in chunks(sorted(decisions)):
        query = select(decision.c.id, decision.c.facts).where(decision.c.id.in_(some))
        for row in await connection.execute(query):
            found[row.id] = None if row.facts is None else orjson.loads(journal.read_facts(row.facts))
    return found


async def later(connection: AsyncConnection, threads: Collection[int], after: int) -> list[Later]:
    """The decisions with higher numbers about threads of these numbers, in order."""
    found = []
    for some in chunks(sorted(threads)):
        columns = (decision.c.id, decision.c.thread, decision.c.line, decision.c.batch)
        query = select(*columns).where(decision.c.thread.in_(some), decision.c.id > after)
        for row in await connection.execute(query):
            line = json.loads(row.line)
            found.append(Later(row.id, row.thread, line["trigger"], line["actor"], row.batch, line.get("undoes")))
    return sorted(found, key=lambda each: each.number)


async def labels_of(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, int]:
    """The labels of the threads that people call by these numbers, or called so before a merge; unknown ones are
    absent."""
    found: dict[int, int] = {}
    shown = func.coalesce(thread.c.number, thread.c.id)
    for some in chunks(sorted(numbers)):
        by_label = select(thread.c.id, shown).where(thread.c.id.in_(some), thread.c.number.is_(None))
        by_number = select(thread.c.id, shown).where(thread.c.number.in_(some))
        by_alias = select(thread_alias.c.thread, thread_alias.c.number).where(thread_alias.c.number.in_(some))
        for query in (by_alias, by_label, by_number):
            found |= {number: label for label, number in await connection.execute(query)}
    return found
