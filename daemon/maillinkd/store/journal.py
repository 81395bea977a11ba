"""The append-only journal of decisions, chained by hash within a scope."""

import secrets
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Select, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.linker.policy import RULE_VERSION
from maillinkd.linker.snapshot import micros, moment
from maillinkd.store.bulk import Insert, Update
from maillinkd.store.database import chunks, next_numbers
from maillinkd.store.deflate import DEFAULT_STRATEGY, DEFLATED, LEVEL, compressobj
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


class Written(NamedTuple):
    """An entry as it will stand in its row."""

    line: str
    facts: bytes
    salt: bytes
    digest: bytes


_SALT = 16
"""Bytes; without it facts that were erased could be guessed from their digest."""
_WORDS = (
    b'"refers":true,"new":true},{"id":"@mail.gmail.com","names":"project:","organization:lead:","forwarded '
    b'"hand":["person:"],"tombstones":["reply_to bcc "marks":["bridge","smart_bcc_explicit","origin":"smart_bcc",'
    b'"origin":"hand","decision":,"reason":"manual_link_kept","reason":"linked_single_open_item"},"known":{"":["person:'
    b'"]},"persons":{"person:":"organization:","items":[{"ref":"deal:","open":false,"added":1717232400000000,'
    b'"person":"person:","organization":null,"participants":["person:'
    b'{"policy":{"preset":"recommended","count_internal_recipients":false,"unknown_start":"link",'
    b'"ignore_plus_tags":false,"single_contact":false,"closed_item_threads":"keep","many_recipients":"slot",'
    b'"include_organization_items":false,"include_participants":false,"count_only_older_items":false,'
    b'"match_rewritten":false},"letters":[{"id":"","sent":1776594168000000,"people":["from ","to ","cc '
    b'"],"refers":true},{"id":"","sent":1776609936000000,"people":["from ","to "],"new":true}],"internal":["'
    b'"],"known":{"":["person:"]},"persons":{"person:":null},"items":[{"ref":"deal:","open":true,'
    b'"added":1717232400000000,"person":"person:","organization":null,"participants":[]}],"known":{},"persons":{},'
    b'"items":[],"slot":{"item":null,"origin":null,"added":null,"decision":null,"reason":null},"hand":[],'
    b'"tombstones":[],"auto_link":true,"start_unknown":false,"duplicate_message_id":false}'
)
"""What all facts say alike (a preset dictionary, RFC 1950 2.2): with it they take less than half the room. Never
to be changed: rows on disk need it."""
_DECOMPRESSOR = zlib.decompressobj(zdict=_WORDS)


def write_down(entries: Sequence[Entry]) -> list[Written]:
    """What takes time and needs no database."""
    salts = secrets.token_bytes(_SALT * len(entries))
    return [_write_down(each, salts[at * _SALT : (at + 1) * _SALT]) for at, each in enumerate(entries)]


def _write_down(entry: Entry, salt: bytes) -> Written:
    line = orjson.dumps(entry.line).decode()
    facts = orjson.dumps(entry.facts)
    # a small window is quicker for 1 kB; both libraries take these by position alone
    compress = compressobj(LEVEL, DEFLATED, 12, 4, DEFAULT_STRATEGY, _WORDS)
    return Written(line, compress.compress(facts) + compress.flush(), salt, sha256(salt + facts).digest())


def read_facts(compressed: bytes) -> bytes:
    """The facts of a row as JSON. Raises zlib.error."""
    decompress = _DECOMPRESSOR.copy()
    facts = decompress.decompress(compressed)
    if not decompress.eof:
        raise zlib.error("the facts end too early")
    return facts


_DECISION = Insert(
    decision,
    (
        "id",
        "scope",
        "thread",
        "at",
        "line",
        "reason",
        "mailbox",
        "batch",
        "rule_version",
        "facts",
        "salt",
        "digest",
        "chain",
        "instance",
    ),
)


_CHAIN = Update(scope, "chain", key="id")


async def append(
    connection: AsyncConnection,
    place: Scope,
    entries: Sequence[Entry],
    instance: str,
    written: Sequence[Written] | None = None,
) -> tuple[list[int], Scope]:
    """Writes the entries and returns their numbers, in order, and the scope with its new chain.

    `written`: what `write_down` made of them, where that was done before.
    """
    if not entries:
        return [], place
    chain = place.chain
    rows = []
    for each, (line, facts, salt, digest) in zip(entries, written or write_down(entries), strict=True):
        chain = link_of_chain(chain, line, digest)
        rows.append(
            (
                place.id,
                each.thread,
                micros(each.at),
                line,
                each.line["reason"],
                each.line["mailbox"],
                each.batch,
                RULE_VERSION,
                facts,
                salt,
                digest,
                chain,
                instance,
            )
        )
    numbers = await next_numbers(connection, decision, len(rows))
    await _DECISION(connection, [(number, *row) for number, row in zip(numbers, rows, strict=True)])
    await _CHAIN(connection, chain, [place.id])
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
    return [line_of(row.id, orjson.loads(row.line)) for row in await connection.execute(query)]


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
    return [line_of(row.id, orjson.loads(row.line)) for row in await connection.execute(query)]


async def logged(connection: AsyncConnection, numbers: Collection[int], at: datetime) -> None:
    """Their lines are written."""
    await _LOGGED(connection, micros(at), sorted(numbers))


_LOGGED = Update(decision, "logged_at", key="id")


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
    return [_recorded(row) for row in await connection.execute(query)]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of the journal as it is on disk, for `verify`."""

    number: int
    scope: int
    thread: int
    at: datetime
    line: str
    """JSON."""
    reason: str
    mailbox: str | None
    batch: int | None
    rule_version: int
    facts: bytes | None
    """As compressed by `append`; None once erased."""
    salt: bytes
    digest: bytes
    chain: bytes

    def written(self) -> bytes | None:
        """The facts as JSON. Raises zlib.error."""
        return None if self.facts is None else read_facts(self.facts)


_ROW = tuple(
    decision.c[name]
    for name in (
        *("id", "scope", "thread", "at", "line", "reason", "mailbox"),
        *("batch", "rule_version", "facts", "salt", "digest", "chain"),
    )
)


async def rows(connection: AsyncConnection, after: int, limit: int) -> list[Row]:
    """The next rows with higher numbers, in their order. The numbers of a scope rise with its chain."""
    query = select(*_ROW).where(decision.c.id > after).order_by(decision.c.id).limit(limit)
    return [
        Row(id_, in_scope, number, moment(at), *rest)
        for id_, in_scope, number, at, *rest in await connection.execute(query)
    ]


async def lines_before(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, dict[str, Any]]:
    """For each of these decisions the line of the one before it about the same thread; absent for a first one."""
    this, earlier = decision.alias(), decision.alias()
    before = (
        select(func.max(earlier.c.id))
        .where(earlier.c.thread == this.c.thread, earlier.c.id < this.c.id)
        .scalar_subquery()
    )
    found: dict[int, dict[str, Any]] = {}
    for some in chunks(sorted(numbers)):
        pairs = select(this.c.id.label("number"), before.label("before")).where(this.c.id.in_(some)).subquery()
        query = select(pairs.c.number, decision.c.line).join(decision, decision.c.id == pairs.c.before)
        found |= {row.number: orjson.loads(row.line) for row in await connection.execute(query)}
    return found


async def recorded(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, Recorded]:
    """The decisions of these numbers; unknown ones are absent."""
    found: dict[int, Recorded] = {}
    for some in chunks(sorted(numbers)):
        query = select(decision).where(decision.c.id.in_(some))
        found |= {row.id: _recorded(row) for row in await connection.execute(query)}
    return found


def _recorded(row: Any) -> Recorded:
    facts = orjson.loads(read_facts(row.facts)) if row.facts is not None else None
    return Recorded(row.id, moment(row.at), orjson.loads(row.line), facts, row.batch)


async def count(connection: AsyncConnection) -> int:
    """How many decisions there are."""
    return int((await connection.execute(select(func.count()).select_from(decision))).scalar_one())


async def scopes(connection: AsyncConnection) -> list[Scope]:
    """All scopes, with the hash of the newest decision of each."""
    query = select(scope.c.id, scope.c.owner, scope.c.channel, scope.c.chain).order_by(scope.c.id)
    return [Scope(*row) for row in await connection.execute(query)]
