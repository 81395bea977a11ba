"""Messages and threads on their shelves."""

import asyncio
import json
import zlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b, sha256
from typing import Any, NamedTuple

import orjson
from sqlalchemy import bindparam, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import ItemRef
from maillinkd.linker.snapshot import micros, moment
from maillinkd.mail.address import without_plus_tag
from maillinkd.mail.delivery import Packed
from maillinkd.mail.message import Participant, Role
from maillinkd.mail.threads import Known, Size
from maillinkd.store.bulk import Delete, Insert, Lookup, Update
from maillinkd.store.database import chunks, know_numbers, lock_directory, next_numbers, settled, upsert
from maillinkd.store.deflate import LEVEL, compress
from maillinkd.store.schema import message as messages
from maillinkd.store.schema import message_ref, participant, raw_message, raw_piece, scope, thread, thread_alias

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


@dataclass(slots=True)  # not frozen: twenty of their fields would cost as much as placing the message
class Stored:
    """A message as linking and showing need it. Nobody changes one."""

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


@dataclass(slots=True)
class NewMessage(Stored):
    """A message that is about to be stored. Its `id` is provisional: negative."""

    identity: bytes
    """T11, in its scope (`identity_in`)."""
    received_at: datetime
    headers: bytes
    size: int


class Said(NamedTuple):
    """What a message says of people and of other messages."""

    people: frozenset[tuple[Role, str]]
    refers: frozenset[str]


def identity_in(scope_id: int, identity: bytes, node: bytes) -> bytes:
    """The identity (T11) of a message in its scope; a copy (L16 c) has its own, by its node."""
    return blake2b(identity + node, digest_size=16, key=scope_id.to_bytes(8, "big")).digest()


async def lock_scope(connection: AsyncConnection, owner: str, channel: str) -> Scope:
    """The scope, made where it is new; until the transaction ends nobody else writes in it."""
    await lock_directory(connection, alone=False)
    await know_numbers(connection)
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
    return dict(await _IDENTITIES(connection, identities))


async def known_nodes(connection: AsyncConnection, nodes: Collection[bytes]) -> dict[bytes, Known]:
    """Of these nodes, those that the scope has heard of."""
    rows = await _NODES(connection, nodes)
    return {node: Known(thread_, bool(borne_), bool(detached)) for node, thread_, borne_, detached in rows}


async def said(connection: AsyncConnection, numbers: Collection[int]) -> dict[int, Said]:
    """What these messages say of people and of other messages."""
    return {
        number: Said(
            frozenset((Role(role), address) for role, address, *_ in orjson.loads(people)),
            frozenset(json.loads(refers)),
        )
        for number, people, refers in await _SAID(connection, numbers)
    }


async def say_more(connection: AsyncConnection, letters: Collection[Stored]) -> None:
    """Writes the people and references of stored messages anew."""
    if not letters:
        return
    statement = (
        update(messages)
        .where(messages.c.id == bindparam("number"))
        .values(participants=bindparam("people"), refers=bindparam("ids"))
    )
    rows = [{"number": each.id, "people": _people(each), "ids": _ids(each.refers)} for each in letters]
    await connection.execute(statement, rows)
    found = [(address, each.id) for each in letters for address in sorted(_findable(each.participants))]
    await _PARTICIPANT(connection, found)


_SAID = Lookup(select(messages.c.id, messages.c.participants, messages.c.refers), messages.c.id)
_IDENTITIES = Lookup(select(messages.c.identity, messages.c.id), messages.c.identity)
_NODES = Lookup(
    select(message_ref.c.node, message_ref.c.thread, message_ref.c.borne, message_ref.c.detached), message_ref.c.node
)


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
    for row in await _MESSAGES(connection, threads):
        found[row[0]].append(_stored(*row[1:]))
    for listed in found.values():
        listed.sort(key=order)
    return found


_MESSAGES = Lookup(
    select(message_ref.c.thread, *_COLUMNS).join(messages, messages.c.node == message_ref.c.node),
    message_ref.c.thread,
)


def order(each: Stored) -> tuple[datetime, str, str, tuple[Participant, ...], bool, int]:
    """L26: by sent time, then Message-ID; two messages of one id (T11) by what tells them apart.

    What nothing does, in the order in which they were stored: those about to be count downwards from -1.
    """
    return each.sent_at, each.message_id, each.subject, each.participants, each.id < 0, abs(each.id)


def _stored(
    number: int,
    node: bytes,
    message_id: str,
    made_id: int,
    sent_at: int,
    subject: str,
    base_subject: str,
    participants: str,
    refers: str,
    last_reference: bytes | None,
    forward: int,
    detached: int,
    names: str | None,
    marks: str,
    undecided: int,
) -> Stored:
    """In the order of `_COLUMNS`."""
    people: list[list[str]] = orjson.loads(participants)
    return Stored(
        id=number,
        node=node,
        message_id=message_id,
        made_id=bool(made_id),
        sent_at=moment(sent_at),
        subject=subject,
        base_subject=base_subject,
        participants=tuple(Participant(Role(each[0]), each[1]) for each in people),
        evidence={each[1]: each[2] for each in people if len(each) > 2},
        refers=tuple(json.loads(refers)) if refers != "[]" else (),
        last_reference=last_reference,
        forward=bool(forward),
        detached=bool(detached),
        names=ItemRef.parse(names) if names else None,
        marks=frozenset(json.loads(marks)) if marks != "[]" else frozenset(),
        undecided=bool(undecided),
    )


_MESSAGE = Insert(
    messages,
    (
        "id",
        "scope",
        "node",
        "identity",
        "message_id",
        "made_id",
        "sent_at",
        "received_at",
        "subject",
        "base_subject",
        "participants",
        "refers",
        "last_reference",
        "forward",
        "detached",
        "names",
        "marks",
        "headers",
        "size",
        "raw",
        "undecided",
    ),
)
_PARTICIPANT = Insert(participant, ("address", "message"), key=("address", "message"))
_RAW = Insert(raw_message, ("sha256", "size", "compressed"), key=("sha256",))
_RAW_PIECE = Insert(raw_piece, ("sha256", "number", "compressed"), key=("sha256", "number"))
PIECE = 1 << 20
"""Bytes of a message that are compressed and stored together."""


async def new_numbers(connection: AsyncConnection, count: int) -> list[int]:
    """Numbers for so many new messages, in rising order."""
    return await next_numbers(connection, messages, count) if count else []


async def store(
    connection: AsyncConnection, scope_id: int, new: Mapping[int, NewMessage], raws: Mapping[int, bytes]
) -> None:
    """Stores messages under these numbers. `raws`: the SHA-256 of those that are kept whole (`store_raw`)."""
    await _MESSAGE(connection, [_row(number, scope_id, each, raws.get(number)) for number, each in new.items()])
    found = [(address, number) for number, each in new.items() for address in sorted(_findable(each.participants))]
    await _PARTICIPANT(connection, found)


def _findable(people: Iterable[Participant]) -> set[str]:
    """The addresses under which a message is found by the directory (L6), with and without their tags."""
    addresses = {each.address for each in people}
    return addresses | {without_plus_tag(address) for address in addresses if "+" in address}


def storable(text: str) -> str:
    """The text without what a database cannot hold: NUL, and bytes that were no UTF-8."""
    if "\x00" in text:
        text = text.replace("\x00", "\ufffd")
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def _row(number: int, scope_id: int, each: NewMessage, digest: bytes | None) -> tuple[Any, ...]:
    """In the order of `_MESSAGE`."""
    return (
        number,
        scope_id,
        each.node,
        each.identity,
        storable(each.message_id),
        each.made_id,
        micros(each.sent_at),
        micros(each.received_at),
        storable(each.subject),
        storable(each.base_subject),
        _people(each),
        _ids(each.refers),
        each.last_reference,
        each.forward,
        each.detached,
        each.names and str(each.names),
        json.dumps(sorted(each.marks)) if each.marks else "[]",
        each.headers,
        each.size,
        digest,
        each.undecided,
    )


def _people(each: Stored) -> str:
    people = [
        (p.role, p.address, each.evidence[p.address]) if p.role is Role.FORWARDED else (p.role, p.address)
        for p in each.participants
    ]
    return orjson.dumps(people).decode()


def _ids(refers: Sequence[str]) -> str:
    """In ASCII, which keeps bytes that are no UTF-8 (T2)."""
    return json.dumps(refers) if refers else "[]"


async def store_raw(connection: AsyncConnection, packed: Iterable[Packed]) -> None:
    """The bytes once, whatever the number of scopes; those of a large message piece by piece, to hold little."""
    listed = list(packed)
    await _RAW(connection, [(each.sha256, each.size, each.beginning) for each in listed])
    for each in listed:
        if each.large is not None:
            for piece, start in enumerate(range(PIECE, each.size, PIECE), 1):
                compressed = await asyncio.to_thread(compress, each.large[start : start + PIECE], LEVEL)
                await _RAW_PIECE(connection, [(each.sha256, piece, compressed)])
                await settled(connection)  # before the next one is in memory


def pack(raws: Sequence[bytes]) -> list[Packed]:
    """Whole messages as they are to be stored. Takes time, and lets others work meanwhile."""
    return [
        Packed(sha256(raw).digest(), len(raw), compress(raw[:PIECE], LEVEL), raw if len(raw) > PIECE else None)
        for raw in raws
    ]


async def raw(connection: AsyncConnection, digest: bytes) -> bytes | None:
    """The bytes of a whole message by their SHA-256, None where they are not kept."""
    query = select(raw_message.c.compressed).where(raw_message.c.sha256 == digest)
    first = (await connection.execute(query)).scalar()
    if first is None:
        return None
    pieces = select(raw_piece.c.compressed).where(raw_piece.c.sha256 == digest).order_by(raw_piece.c.number)
    return b"".join(map(zlib.decompress, (first, *(await connection.execute(pieces)).scalars())))


async def new_labels(connection: AsyncConnection, count: int) -> list[int]:
    """Labels for so many new threads."""
    return await next_numbers(connection, thread, count) if count else []


_NODE = Insert(
    message_ref, ("node", "thread", "borne", "detached"), key=("node",), update=("thread", "borne", "detached")
)


async def write_nodes(connection: AsyncConnection, nodes: Mapping[bytes, Known]) -> None:
    """Writes where these nodes lie, in the order of their keys, so that two writers cannot block each other."""
    await _NODE(connection, [(each, *known) for each, known in sorted(nodes.items())])


async def relabel(connection: AsyncConnection, survivor: int, others: Collection[int]) -> None:
    """Gives the ids and aliases of the other threads to the survivor. Their rows are still there (see `bury`)."""
    await _NODES_TO(connection, survivor, others)
    await _ALIASES_TO(connection, survivor, others)


async def bury(
    connection: AsyncConnection, survivor: int, others: Collection[int], number: int, aliases: Collection[int]
) -> None:
    """Ends a merge: the other rows go, the survivor gets the oldest thread's number, the rest become aliases."""
    await _THREADS(connection, others)
    await _NUMBER(connection, None if number == survivor else number, [survivor])
    await _ALIASES(connection, [number])
    await _ALIAS(connection, [(each, survivor) for each in aliases])


_NODES_TO = Update(message_ref, "thread", key="thread")
_ALIASES_TO = Update(thread_alias, "thread", key="thread")
_THREADS = Delete(thread, key="id")
_NUMBER = Update(thread, "number", key="id")
_ALIASES = Delete(thread_alias, key="number")
_ALIAS = Insert(thread_alias, ("number", "thread"), key=("number",), update=("thread",))


async def mark(connection: AsyncConnection, marks: Mapping[int, frozenset[str]]) -> None:
    """Sets what is to be said of these messages (by number)."""
    if marks:
        statement = update(messages).where(messages.c.id == bindparam("number")).values(marks=bindparam("said"))
        await connection.execute(
            statement, [{"number": number, "said": json.dumps(sorted(said))} for number, said in marks.items()]
        )


async def settle(connection: AsyncConnection, numbers: Collection[int]) -> None:
    """These messages' threads are decided now."""
    await _UNDECIDED(connection, False, sorted(numbers))


async def unsettle(connection: AsyncConnection, numbers: Collection[int]) -> None:
    """These messages' threads are to be decided from them on, when the import ends."""
    await _UNDECIDED(connection, True, sorted(numbers))


_UNDECIDED = Update(messages, "undecided", key="id")


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
