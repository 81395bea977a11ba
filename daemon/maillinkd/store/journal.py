"""The append-only journal of decisions, chained by hash within a scope."""

import json
import secrets
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.policy import RULE_VERSION
from maillinkd.linker.snapshot import micros, moment
from maillinkd.store.database import chunks, next_numbers
from maillinkd.store.mailroom import Scope
from maillinkd.store.schema import batch, decision, scope


@dataclass(frozen=True, slots=True)
class Entry:
    """A decision that is about to be written."""

    thread: int
    """Number of the thread."""
    at: datetime
    line: Mapping[str, Any]
    """The decision line (contract.md) but for `decision`, `v`, `event` and `level`."""
    facts: Mapping[str, Any]
    """What was looked at (L20, L24)."""
    batch: int | None = None


async def append(
    connection: AsyncConnection, place: Scope, entries: Sequence[Entry], instance: str
) -> tuple[list[int], Scope]:
    """Writes the entries and returns their numbers, in order, and the scope with its new chain."""
    if not entries:
        return [], place
    chain = place.chain
    rows = []
    for each in entries:
        line = json.dumps(each.line, ensure_ascii=False, separators=(",", ":"))
        written = json.dumps(each.facts, ensure_ascii=False, separators=(",", ":")).encode()
        facts = zlib.compress(written, 1)
        salt = secrets.token_bytes(16)
        digest = sha256(salt + written).digest()
        chain = link_of_chain(chain, line, digest)
        rows.append(
            {
                "scope": place.id,
                "thread": each.thread,
                "at": micros(each.at),
                "line": line,
                "reason": each.line["reason"],
                "mailbox": each.line["mailbox"],
                "batch": each.batch,
                "rule_version": RULE_VERSION,
                "facts": facts,
                "salt": salt,
                "digest": digest,
                "chain": chain,
                "instance": instance,
                "logged_at": None,
            }
        )
    numbers = await next_numbers(connection, decision, len(rows))
    await connection.execute(
        insert(decision), [{"id": number} | row for number, row in zip(numbers, rows, strict=True)]
    )
    await connection.execute(update(scope).where(scope.c.id == place.id).values(chain=chain))
    return numbers, Scope(place.id, place.owner, place.channel, chain)


def link_of_chain(before: bytes, line: str, digest: bytes) -> bytes:
    """The chain after a decision: erasing its facts leaves it whole, changing its line does not."""
    return sha256(before + sha256(line.encode()).digest() + digest).digest()


def line_of(number: int, line: Mapping[str, Any]) -> dict[str, Any]:
    """The decision line as the log and `decisions` show it."""
    return {"v": 1, "event": "link", "timestamp": line["timestamp"], "level": "info", "decision": number} | {
        name: value for name, value in line.items() if name != "timestamp"
    }


async def open_batch(connection: AsyncConnection, command: str, actor: str, at: datetime) -> int:
    """Starts a batch of changes that `undo` can take back by its number."""
    statement = insert(batch).values(command=command, actor=actor, at=micros(at)).returning(batch.c.id)
    return int((await connection.execute(statement)).scalar_one())


async def lines(
    connection: AsyncConnection,
    *,
    after: int = 0,
    since: datetime | None = None,
    reason: str | None = None,
    among: Collection[int] | None = None,
    limit: int = 1_000,
) -> list[dict[str, Any]]:
    """Decision lines in the order of their numbers; `among`: of these numbers alone."""
    query = select(decision.c.id, decision.c.line).order_by(decision.c.id).limit(limit)
    query = query.where(decision.c.id.in_(among)) if among is not None else query.where(decision.c.id > after)
    if since is not None:
        query = query.where(decision.c.at >= micros(since))
    if reason is not None:
        query = query.where(decision.c.reason == reason)
    return [line_of(row.id, json.loads(row.line)) for row in await connection.execute(query)]


async def newest(connection: AsyncConnection) -> int:
    """The number of the newest decision, 0 if there is none."""
    query = select(decision.c.id).order_by(decision.c.id.desc()).limit(1)
    return (await connection.execute(query)).scalar() or 0


async def unlogged(
    connection: AsyncConnection,
    instances: Collection[str],
    mailboxes: Collection[str],
    *,
    smart_bcc: bool = False,
    limit: int = 1_000,
) -> list[dict[str, Any]]:
    """Lines of decisions whose process died before it had logged them.

    Those of these instances, of mailboxes that are ours now, and with `smart_bcc` those that came by no mailbox.
    """
    ours = [decision.c.instance.in_(sorted(instances)), decision.c.mailbox.in_(sorted(mailboxes))]
    if smart_bcc:
        ours.append(decision.c.mailbox.is_(None))
    query: Select[Any] = (
        select(decision.c.id, decision.c.line)
        .where(
            decision.c.logged_at.is_(None),
            or_(*ours),
        )
        .order_by(decision.c.id)
        .limit(limit)
    )
    return [line_of(row.id, json.loads(row.line)) for row in await connection.execute(query)]


async def logged(connection: AsyncConnection, numbers: Collection[int], at: datetime) -> None:
    """Their lines are written."""
    for some in chunks(sorted(numbers)):
        await connection.execute(update(decision).where(decision.c.id.in_(some)).values(logged_at=micros(at)))


@dataclass(frozen=True, slots=True)
class Recorded:
    """A decision as it stands in the journal."""

    number: int
    at: datetime
    line: Mapping[str, Any]
    facts: Mapping[str, Any] | None
    """None once erased."""
    batch: int | None


async def of_threads(connection: AsyncConnection, numbers: Collection[int]) -> list[Recorded]:
    """All decisions about threads of these numbers, oldest first."""
    query = select(decision).where(decision.c.thread.in_(sorted(numbers))).order_by(decision.c.id)
    return [
        Recorded(
            row.id,
            moment(row.at),
            json.loads(row.line),
            json.loads(zlib.decompress(row.facts)) if row.facts is not None else None,
            row.batch,
        )
        for row in await connection.execute(query)
    ]
