"""Messages and threads on their shelves."""

import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import ItemRef
from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.address import without_plus_tag
from maillinkd.mail.message import Participant, Role
from maillinkd.mail.threads import Known, Size
from maillinkd.store.database import chunks, next_numbers, upsert
from maillinkd.store.schema import message as messages
from maillinkd.store.schema import message_ref, participant, raw_message, scope, thread, thread_alias

BRIDGE = "bridge"
EXCLUDED = "excluded_from_item"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose threads: an owner's in one channel (linking.md, Words)."""

    id: int
    owner: str
    channel: str
    chain: bytes
    """Hash of the scope's newest decision."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as linking and showing need it."""

    id: int
    node: bytes
    message_id: str
    made_id: bool
    sent_at: datetime
    subject: str
    base_subject: str
    participants: tuple[Participant, ...]
    evidence: Mapping[str, str]
    """Forwarded address to where it was found: attached or inline (L15)."""
    refers: tuple[str, ...]
    last_reference: bytes | None
    forward: bool
    detached: bool
    names: ItemRef | None
    marks: frozenset[str]
    undecided: bool


@dataclass(frozen=True, slots=True)
class NewMessage(Stored):
    """A message that is about to be stored. Its `id` is provisional: negative."""

    identity: bytes
    """T11, in its scope (`identity_in`)."""
    received_at: datetime
    headers: bytes
    size: int
    raw: bytes | None


def identity_in(scope_id: int, identity: bytes, node: bytes) -> bytes:
    """The identity (T11) of a message in its scope; a copy (L16 c) has its own, by its node."""
    return blake2b(identity + node, digest_size=16, key=scope_id.to_bytes(8, "big")).digest()


async def lock_scope(connection: AsyncConnection, owner: str, channel: str) -> Scope:
    """The scope, made where it is new; until the transaction ends nobody else writes in it."""
    query = (
        select(scope).where(scope.c.owner == owner, scope.c.channel == channel).with_for_update()
    )  # SQLite has one writer anyway and leaves FOR UPDATE out
    row = (await connection.execute(query)).first()
    if row is None:
        new = {"owner": owner, "channel": channel, "chain": b""}
        await upsert(connection, scope, [new], key=("owner", "channel"))
        row = (await connection.execute(query)).one()
    return Scope(row.id, row.owner, row.channel, row.chain)


async def scopes_of(connection: AsyncConnection, threads: Collection[int]) -> dict[int, tuple[str, str]]:
    """Owner and channel of these threads (labels)."""
    found: dict[int, tuple[str, str]] = {}
    for some in chunks(sorted(threads)):
        query = (
            select(thread.c.id, scope.c.owner, scope.c.channel)
            .join(scope, scope.c.id == thread.c.scope)
            .where(thread.c.id.in_(some))
        )
        found |= {row.id: (row.owner, row.channel) for row in await connection.execute(query)}
    return found


async def by_scope(connection: AsyncConnection, threads: Collection[int]) -> list[tuple[tuple[str, str], list[int]]]:
    """These threads (labels) by owner and channel, in an order in which two writers cannot block each other."""
    found = defaultdict[tuple[str, str], list[int]](list)
    for label, place in sorted((await scopes_of(connection, threads)).items()):
        found[place].append(label)
    return sorted(found.items())


async def known_identities(connection: AsyncConnection, identities: Collection[bytes]) -> dict[bytes, int]:
    """Of these identities, those stored, with their message's number."""
    known: dict[bytes, int] = {}
    for some in chunks(list(identities)):
        query = select(messages.c.identity, messages.c.id).where(messages.c.identity.in_(some))
        known |= {row.identity: row.id for row in await connection.execute(query)}
    return known


async def known_nodes(connection: AsyncConnection, nodes: Collection[bytes]) -> dict[bytes, Known]:
    """Of these nodes, those that the scope has heard of."""
    known: dict[bytes, Known] = {}
    for some in chunks(list(nodes)):
        query = select(message_ref).where(message_ref.c.node.in_(some))
        known |= {row.node: Known(row.thread, row.borne, row.detached) for row in await connection.execute(query)}
    return known


async def thread_sizes(connection: AsyncConnection, threads: Collection[int]) -> dict[int, Size]:
    sizes: dict[int, Size] = {}
    for some in chunks(sorted(threads)):
        query = select(thread.c.id, thread.c.id_count, thread.c.message_count).where(thread.c.id.in_(some))
        sizes |= {row.id: Size(row.id_count, row.message_count) for row in await connection.execute(query)}
    return sizes


_COLUMNS = (
    messages.c.id,
    messages.c.node,
    messages.c.message_id,
    messages.c.made_id,
    messages.c.sent_at,
    messages.c.subject,
    messages.c.base_subject,
    messages.c.participants,
    messages.c.refers,
    messages.c.last_reference,
    messages.c.forward,
    messages.c.detached,
    messages.c.names,
    messages.c.marks,
    messages.c.undecided,
)


async def messages_of(connection: AsyncConnection, threads: Collection[int]) -> dict[int, list[Stored]]:
    """The messages of these threads (labels), in order of sent time, then message-id (L26)."""
    found = defaultdict[int, list[Stored]](list)
    for some in chunks(sorted(threads)):
        query = (
            select(message_ref.c.thread, *_COLUMNS)
            .join(messages, messages.c.node == message_ref.c.node)
            .where(message_ref.c.thread.in_(some))
        )
        for row in await connection.execute(query):
            found[row.thread].append(_stored(row))
    for listed in found.values():
        listed.sort(key=order)
    return found


def order(each: Stored) -> tuple[datetime, str, bool, int]:
    """L26: by sent time, then Message-ID; two messages of one id in the order in which they were stored.

    Messages about to be stored count downwards from -1, and come after those that are.
    """
    return each.sent_at, each.message_id, each.id < 0, abs(each.id)


def _stored(row: Any) -> Stored:
    people: list[list[str]] = json.loads(row.participants)
    return Stored(
        id=row.id,
        node=row.node,
        message_id=row.message_id,
        made_id=row.made_id,
        sent_at=moment(row.sent_at),
        subject=row.subject,
        base_subject=row.base_subject,
        participants=tuple(Participant(Role(each[0]), each[1]) for each in people),
        evidence={each[1]: each[2] for each in people if len(each) > 2},
        refers=tuple(json.loads(row.refers)) if row.refers != "[]" else (),
        last_reference=row.last_reference,
        forward=row.forward,
        detached=row.detached,
        names=ItemRef.parse(row.names) if row.names else None,
        marks=frozenset(json.loads(row.marks)) if row.marks != "[]" else frozenset(),
        undecided=row.undecided,
    )


async def store(connection: AsyncConnection, scope_id: int, new: Sequence[NewMessage]) -> list[int]:
    """Stores the messages and returns their numbers, in order."""
    if not new:
        return []
    await _store_raw(connection, [each.raw for each in new if each.raw is not None])
    numbers = await next_numbers(connection, messages, len(new))
    await connection.execute(
        insert(messages),
        [{"id": number} | _message_row(scope_id, each) for number, each in zip(numbers, new, strict=True)],
    )
    await upsert(
        connection,
        participant,
        [
            {"address": address, "message": number}
            for number, each in zip(numbers, new, strict=True)
            for address in sorted(_findable(each.participants))
        ],
    )
    return numbers


def _findable(people: Iterable[Participant]) -> set[str]:
    """The addresses under which a message is found by the directory (L6), with and without their tags."""
    addresses = {each.address for each in people}
    return addresses | {without_plus_tag(address) for address in addresses if "+" in address}


def storable(text: str) -> str:
    """The text without what a database cannot hold: NUL, and bytes that were no UTF-8."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def _message_row(scope_id: int, each: NewMessage) -> dict[str, Any]:
    people = [
        [str(p.role), p.address, each.evidence[p.address]] if p.role is Role.FORWARDED else [str(p.role), p.address]
        for p in each.participants
    ]
    return {
        "scope": scope_id,
        "node": each.node,
        "identity": each.identity,
        "message_id": storable(each.message_id),
        "made_id": each.made_id,
        "sent_at": micros(each.sent_at),
        "received_at": micros(each.received_at),
        "subject": storable(each.subject),
        "base_subject": storable(each.base_subject),
        "participants": json.dumps(people, ensure_ascii=False),
        "refers": json.dumps(each.refers) if each.refers else "[]",  # ASCII: keeps bytes that are no UTF-8 (T2)
        "last_reference": each.last_reference,
        "forward": each.forward,
        "detached": each.detached,
        "names": each.names and str(each.names),
        "marks": json.dumps(sorted(each.marks)) if each.marks else "[]",
        "headers": each.headers,
        "size": each.size,
        "raw": None if each.raw is None else sha256(each.raw).digest(),
        "undecided": each.undecided,
    }


async def _store_raw(connection: AsyncConnection, raws: Sequence[bytes]) -> None:
    """The bytes once, whatever the number of scopes that they lie in."""
    by_digest = {sha256(raw).digest(): raw for raw in raws}
    rows = [
        {"sha256": digest, "size": len(raw), "compressed": zlib.compress(raw)} for digest, raw in by_digest.items()
    ]
    for some in chunks(rows, 200):
        await upsert(connection, raw_message, some)


async def open_threads(connection: AsyncConnection, scope_id: int, count: int) -> list[int]:
    """Makes so many empty threads and returns their labels."""
    if not count:
        return []
    row = {
        "scope": scope_id,
        "started_at": 0,
        "last_message_at": 0,
        "message_count": 0,
        "id_count": 0,
        "subject": "",
        "candidates": "[]",
        "flags": "[]",
        "slot_lost": False,
        "unlinked_by_hand": False,
    }
    labels = await next_numbers(connection, thread, count)
    await connection.execute(insert(thread), [{"id": label} | row for label in labels])
    return labels


async def write_nodes(connection: AsyncConnection, nodes: Mapping[bytes, Known]) -> None:
    """Writes where these nodes lie, in the order of their keys, so that two writers cannot block each other."""
    rows = [
        {"node": each, "thread": known.thread, "borne": known.borne, "detached": known.detached}
        for each, known in sorted(nodes.items())
    ]
    for some in chunks(rows):
        await upsert(connection, message_ref, some, update=("thread", "borne", "detached"))


async def relabel(connection: AsyncConnection, survivor: int, others: Collection[int]) -> None:
    """Gives the ids and aliases of the other threads to the survivor. Their rows are still there (see `bury`)."""
    await connection.execute(update(message_ref).where(message_ref.c.thread.in_(others)).values(thread=survivor))
    await connection.execute(update(thread_alias).where(thread_alias.c.thread.in_(others)).values(thread=survivor))


async def bury(
    connection: AsyncConnection, survivor: int, others: Collection[int], number: int, aliases: Collection[int]
) -> None:
    """Ends a merge: the other rows go, the survivor gets the oldest thread's number, the rest become aliases."""
    await connection.execute(delete(thread).where(thread.c.id.in_(others)))
    await connection.execute(
        update(thread).where(thread.c.id == survivor).values(number=None if number == survivor else number)
    )
    await connection.execute(delete(thread_alias).where(thread_alias.c.number == number))
    await upsert(
        connection, thread_alias, [{"number": each, "thread": survivor} for each in aliases], update=("thread",)
    )


async def mark(connection: AsyncConnection, marks: Mapping[int, frozenset[str]]) -> None:
    """Sets what is to be said of these messages (by number)."""
    if marks:
        statement = update(messages).where(messages.c.id == bindparam("number")).values(marks=bindparam("said"))
        await connection.execute(
            statement, [{"number": number, "said": json.dumps(sorted(said))} for number, said in marks.items()]
        )


async def settle(connection: AsyncConnection, numbers: Collection[int]) -> None:
    """These messages' threads are decided now."""
    for some in chunks(sorted(numbers)):
        await connection.execute(update(messages).where(messages.c.id.in_(some)).values(undecided=False))


async def undecided_threads(connection: AsyncConnection, limit: int) -> list[tuple[str, str, int]]:
    """Threads with messages that were placed and not yet decided: (owner, channel, label)."""
    query = (
        select(scope.c.owner, scope.c.channel, message_ref.c.thread)
        .join(messages, messages.c.scope == scope.c.id)
        .join(message_ref, message_ref.c.node == messages.c.node)
        .where(text("message.undecided"))  # as the partial index says it: `= 1` would not use it
        .order_by(messages.c.id)
        .limit(limit)
    )
    rows = (await connection.execute(query)).all()
    return list(dict.fromkeys((row.owner, row.channel, row.thread) for row in rows))


async def borne(connection: AsyncConnection, nodes: Collection[bytes]) -> set[bytes]:
    """Of these nodes, those that a stored message bears."""
    known = await known_nodes(connection, nodes)
    return {each for each, node in known.items() if node.borne}
