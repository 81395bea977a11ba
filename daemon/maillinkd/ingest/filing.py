"""Files mail: joins messages to threads, has the threads decided, and writes it all (architecture.md, six rooms)."""

import asyncio
import gc
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Any, NamedTuple, TypeVar

from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.ingest import switched
from maillinkd.ingest.desk import Desk, File, at_leisure, in_portions, shown_id
from maillinkd.ingest.office import IMAP, Channel, Office
from maillinkd.linker.decision import Flag, Trigger
from maillinkd.linker.rules import merge
from maillinkd.mail.delivery import Packed
from maillinkd.mail.message import Message, Participant, Role
from maillinkd.mail.threads import Joint, Known, Placement, copy_id, node, references_of
from maillinkd.store import cursors, items, links, mailroom
from maillinkd.store.database import Connection
from maillinkd.store.mailroom import BRIDGE, NewMessage

_T = TypeVar("_T")


class Order(Enum):
    """How the threads of a batch are decided (L26)."""

    NOW = auto()
    """Each from its first new message on, starting from the slot as it is."""
    FIRST_SYNC = auto()
    """Over all messages, from an automatic slot that is empty again; provisional."""
    LATER = auto()
    """Not yet: the import goes on, and its threads are decided when all of it is placed."""


class Place(NamedTuple):
    """Where a message lies in a synced mailbox."""

    folder: int
    uidvalidity: int
    uid: int


class Arrival(NamedTuple):
    """A message on its way to its thread."""

    message: Message
    raw: bytes | Packed | None
    """The whole message, where it is to be kept; packed, where that was done while other things went on."""
    size: int
    mailbox: str | None = None
    place: Place | None = None
    """None for mail that came from a file or by Smart Bcc."""
    named: tuple[ItemRef, ...] = ()
    """Items whose Smart Bcc addresses it was sent to, in order of RCPT, as the addresses name them."""
    forwarded: tuple[tuple[str, str], ...] = ()
    """External addresses found in a forward, and where (L15)."""
    content_ids: tuple[str, ...] = ()
    """T12: further ids, of its content, where the policy asks for them."""
    stored_as: int | None = None
    """The number of the message that this is, where the mailbox's server knows it by a number of its own."""
    is_forward: bool = False
    """L16 (b): no external address in its headers, and a Smart Bcc address visible among its recipients."""


@dataclass(frozen=True, slots=True)
class Merged:
    """Stored threads that became one before the thread is decided (`Order.LATER`)."""

    number: int
    """By which the thread is found, whatever it is merged with later."""
    slot_before: ItemRef | None
    lost: tuple[ItemRef, ...]
    """L21: the items that its decision will name."""


@dataclass(frozen=True, slots=True)
class Filed:
    """What filing a batch came to."""

    lines: list[dict[str, Any]]
    """Decision lines, in order, to be logged after commit."""
    stored: int
    """How many messages were not known before (copies for further items count)."""
    merged: tuple[Merged, ...] = ()


class _Letter(NamedTuple):
    """An arrival, or a copy of one for another item (L16 c), as it is to be stored."""

    arrival: Arrival
    own: bytes
    identity: bytes
    item: ItemRef | None
    """The known item that it names, a converted lead being its deal."""
    unknown_item: bool
    copy: bool = False
    named: ItemRef | None = None
    """`item` as the address has it: perhaps the lead that is a deal now (L10)."""
    mail: tuple[bytes, bytes] = (b"", b"")
    """Node and identity of the mail, also for a copy."""
    copies: tuple[bytes, ...] = ()
    """Other identities that a copy for this item may have: when the mail was delivered first, the address may have
    stood in another place, or the directory have been another."""


@dataclass
class _Batch:
    """What filing a batch has found out so far."""

    undecided: bool
    """Its threads are to be decided later (`Order.LATER`)."""
    new: list[int] = field(default_factory=list)
    """Provisional numbers (negative) of the messages to be stored, in their order."""
    touched: dict[int, tuple[str | None, str | None]] = field(default_factory=dict)
    """By label: mailbox and message-id for the decision line."""
    imported_to: Mapping[str, int] = field(default_factory=dict)
    """By mailbox: the folder under which its imported mail lies."""
    raws: dict[bytes, bytes] = field(default_factory=dict)
    """By identity: the SHA-256 of whole messages that are being stored."""
    more: set[int] = field(default_factory=set)
    """Numbers of stored messages of which another copy says more."""


async def file_messages(
    connection: Connection,
    office: Office,
    owner: str,
    channel: Channel,
    arrivals: Sequence[Arrival],
    *,
    instance: str,
    order: Order = Order.NOW,
    trigger: Trigger = Trigger.MESSAGE,
) -> Filed:
    """Files messages of one scope within the transaction of `connection`.

    A message that is stored already is not stored again (T11): where it lies is noted, and who takes part or what it
    refers to by this copy alone (the sender's own may name a Bcc), so that it does not matter which copy came first.
    """
    if not arrivals:
        return Filed([], 0)
    with _no_collection():
        return await _file(connection, office, owner, channel, arrivals, instance, order, trigger)


_batches = 0
"""How many are being filed."""


@contextmanager
def _no_collection() -> Iterator[None]:
    """What a batch brings lives until it is written: to search it for garbage is a tenth of the work, and in vain."""
    global _batches
    _batches += 1
    gc.disable()
    try:
        yield
    finally:
        _batches -= 1
        if _batches == 0:
            gc.enable()


async def _file(
    connection: Connection,
    office: Office,
    owner: str,
    channel: Channel,
    arrivals: Sequence[Arrival],
    instance: str,
    order: Order,
    trigger: Trigger,
) -> Filed:
    scope = await mailroom.lock_scope(connection, owner, channel)
    directory = await _items_named(connection, arrivals)
    letters = [each for arrival in arrivals for each in _letters(scope.id, arrival, directory)]
    identities = {one for each in letters for one in (each.identity, *each.copies)}
    stored = await mailroom.known_identities(connection, identities)
    more = await _said_more(connection, office, letters, stored)
    for each in letters:
        if each.arrival.stored_as is not None:
            stored.setdefault(each.identity, each.arrival.stored_as)
    letters.sort(key=lambda each: (each.arrival.message.sent_at, each.arrival.message.message_id))
    off = await switched.off_so_far(connection, office, owner, _turned_up(letters, stored))

    joints = [
        _joint(scope.id, each) if each.identity not in stored or each.identity in more else None for each in letters
    ]
    nodes = {one for each in joints if each is not None for one in (each.own, *each.aliases, *each.references)}
    again = [each for each in letters if each.identity in stored and (each.item or each.unknown_item)]
    nodes |= {each.own for each in again}
    nodes |= {each.mail[0] for each in letters if each.item is not None}
    nodes |= off.keys()
    known = await mailroom.known_nodes(connection, nodes)
    threads = {each.thread for each in known.values()}
    placement = Placement(known, await mailroom.thread_sizes(connection, threads))

    desk = Desk(connection, scope, office, instance=instance)
    await desk.open(
        threads,
        addresses={p.address for each in letters for p in _participants(each.arrival, office)},
        named={each.item for each in letters if each.item is not None},
        known=known,
    )
    desk.borne |= {each for each, one in known.items() if one.borne}
    batch = _Batch(undecided=order is Order.LATER, imported_to=await _imported_to(connection, arrivals))
    # From here on little is asked for, so the database works while messages are placed and decided.
    batch.raws = await _store_raws(
        connection, [each for each in letters if each.identity not in stored and not each.copy]
    )
    if order is Order.FIRST_SYNC:
        for file in desk.files.values():
            desk.empty_automatic_slot(file)

    seen: dict[bytes, int] = {}
    decide_now = channel != IMAP
    for each, joint in zip(letters, joints, strict=True):
        number = stored.get(each.identity) or seen.get(each.identity)
        if number is not None:
            if joint is not None:
                _take_more(desk, placement, batch, number, each, joint, decide_now=decide_now)
            if each.item is not None or each.unknown_item:
                is_filed = _is_filed_for(desk, placement, each, stored | seen)
                _delivered_again(desk, placement, batch, number, each, is_filed=is_filed)
        elif joint is not None and not (each.copy and _is_filed_for(desk, placement, each, stored | seen)):
            number = -len(seen) - 1
            seen[each.identity] = number
            _place(desk, placement, batch, number, each, joint, decide_now=decide_now)
    letters = [each for each in letters if each.identity in stored or each.identity in seen]
    await _ask_from_the_first(desk, placement, batch, off)
    numbers, placed = await _number(desk, placement, batch)
    files = [desk.files[label] for label in batch.touched]
    for file in files:
        if trigger is not Trigger.MESSAGE:
            file.trigger = trigger
    first = order is Order.FIRST_SYNC
    lines: list[dict[str, Any]] = []
    await _write_messages(desk, batch, numbers, letters, stored, seen)
    if batch.undecided:
        await desk.put_back_undecided(files)
    else:
        lines = await _decide(desk, files, batch, numbers, walk=channel == IMAP, first_sync=first)
    await mailroom.write_nodes(connection, placed)
    if off:
        place = (owner, channel)
        lines += await switched.decide(
            connection, office, place, off, batch.touched, provisional=first, instance=instance
        )
    return Filed(lines, len(batch.new), _merged(files) if batch.undecided else ())


async def _said_more(
    connection: Connection, office: Office, letters: Iterable[_Letter], stored: Mapping[bytes, int]
) -> set[bytes]:
    """The identities of stored messages of which a copy names people or references that the stored one does not."""
    copies = [each for each in letters if each.identity in stored]
    said = await mailroom.said(connection, {stored[each.identity] for each in copies}) if copies else {}
    return {
        each.identity
        for each in copies
        if not (
            said[stored[each.identity]].people.issuperset(_participants(each.arrival, office))
            and said[stored[each.identity]].refers.issuperset(references_of(each.arrival.message))
        )
    }


def _turned_up(letters: Iterable[_Letter], stored: Collection[bytes]) -> dict[bytes, tuple[str, str]]:
    """The stored messages that come from a mailbox once more."""
    return {
        each.own: (each.arrival.mailbox, shown_id(each.arrival.message.message_id))
        for each in letters
        if each.arrival.mailbox is not None and each.identity in stored
    }


def _marks_of_new(files: Iterable[File], numbers: Mapping[int, int]) -> dict[int, frozenset[str]]:
    """What deciding has said of messages that are being written meanwhile."""
    letters = ((file, each) for file in files if file.marked for each in file.letters)
    return {numbers[each.id]: each.marks for file, each in letters if each.id < 0 and each.id in file.marked}


async def _decide(
    desk: Desk, files: Sequence[File], batch: _Batch, numbers: Mapping[int, int], *, walk: bool, first_sync: bool
) -> list[dict[str, Any]]:
    """Decides the threads, but for those whose messages were decided one by one, and writes them."""
    lines: list[dict[str, Any]] = []
    for portion in in_portions(files):
        if walk:
            for some in at_leisure(portion):
                for file in some:
                    desk.decide(file, from_the_start=first_sync)
                await asyncio.sleep(0)
        await mailroom.mark(desk.connection, _marks_of_new(portion, numbers))
        lines += await desk.put_back(portion, provisional=first_sync, about=batch.touched)
    return lines


def _merged(files: Iterable[File]) -> tuple[Merged, ...]:
    return tuple(
        Merged(file.state.number, file.slot_before, file.lost) for file in files if file.trigger is Trigger.MERGE
    )


async def _items_named(connection: Connection, arrivals: Sequence[Arrival]) -> Mapping[ItemRef, Item]:
    """What the directory has under the names in Smart Bcc addresses; a converted lead is its deal (L10)."""
    named = {ref for arrival in arrivals for ref in arrival.named}
    if not named:
        return {}
    found = await items.read(connection, named)
    leads = {ref.key: ref for ref in found if ref.kind is ItemKind.LEAD}
    deals = await items.converted(connection, leads.keys())
    as_deals = await items.read(connection, deals.values())
    return found | {leads[key]: as_deals[deal] for key, deal in deals.items()}


def _letters(scope: int, arrival: Arrival, directory: Mapping[ItemRef, Item]) -> list[_Letter]:
    """The message, and a copy of its own for each further item that it was sent to (L16 c)."""
    message = arrival.message
    if not arrival.named:
        own = node(scope, message.message_id)
        return [_Letter(arrival, own, mailroom.identity_in(scope, message.identity, own), None, unknown_item=False)]
    known: dict[ItemRef, ItemRef] = {}
    for ref in arrival.named:
        if ref in directory and not directory[ref].deleted:
            known.setdefault(directory[ref].ref, ref)
    unknown = any(ref not in directory or directory[ref].deleted for ref in arrival.named)
    mail = node(scope, message.message_id)
    identity = mailroom.identity_in(scope, message.identity, mail)
    if not known:
        return [_Letter(arrival, mail, identity, None, unknown)]
    letters: list[_Letter] = []
    for item, named in known.items():
        nodes = [node(scope, copy_id(message.message_id, str(ref))) for ref in dict.fromkeys((item, named))]
        copies = tuple(mailroom.identity_in(scope, message.identity, each) for each in nodes)
        place = (mail, identity)
        if not letters:
            letters.append(_Letter(arrival, mail, identity, item, unknown, False, named, place, copies))
        else:
            letters.append(_Letter(arrival, nodes[0], copies[0], item, False, True, named, place, copies[1:]))
    return letters


def _joint(scope: int, letter: _Letter) -> Joint:
    message = letter.arrival.message
    if letter.copy:
        return Joint(letter.own, detached=True)
    return Joint(
        letter.own,
        tuple([node(scope, alias) for alias in (*message.aliases, *letter.arrival.content_ids)]),
        tuple([node(scope, ref) for ref in references_of(message)]),
    )


def _participants(arrival: Arrival, office: Office) -> tuple[Participant, ...]:
    """Those of the headers, and those found in a forward (L15)."""
    if not arrival.forwarded:
        return arrival.message.participants
    found = (
        Participant(Role.FORWARDED, address)
        for address, _ in arrival.forwarded
        if not office.is_internal(office.compared(address))
    )
    return (*arrival.message.participants, *found)


def _place(
    desk: Desk, placement: Placement, batch: _Batch, number: int, letter: _Letter, joint: Joint, *, decide_now: bool
) -> None:
    """Joins a new message to its thread, and by Smart Bcc decides the thread at once: whether the next message is
    detached depends on the answer (L16)."""
    marks = set[str]()
    item, last = letter.item, _last_reference(letter, joint)
    if letter.unknown_item:
        marks.add(str(Flag.SMART_BCC_UNKNOWN_ITEM))
    if decide_now and not letter.copy:
        joint, item = _detach(desk, placement, letter, joint, marks)
    elif letter.copy:
        marks.add(str(Flag.SMART_BCC_DUPLICATE))
    label, bridge, before = placement.place(joint)
    if bridge:
        marks.add(BRIDGE)
    new = _new_message(
        number,
        letter,
        frozenset(marks),
        desk.office,
        item,
        last,
        detached=joint.detached,
        undecided=batch.undecided,
    )
    desk.borne |= {joint.own, *joint.aliases}
    if label not in desk.files:
        desk.start(label, new)
    file = desk.unite(label, before)
    for gone in before:
        if gone != label and gone in batch.touched:
            batch.touched[label] = batch.touched.pop(gone)
    desk.add(file, new, letter.arrival.mailbox)
    if item is not None:
        file.names[number] = item
    batch.new.append(number)
    batch.touched[label] = (letter.arrival.mailbox, shown_id(letter.arrival.message.message_id))
    if decide_now:
        _decide_one(desk, file, number)


def _decide_one(desk: Desk, file: File, number: int) -> None:
    """Decides the thread from this message on; those before it are decided already."""
    earlier = file.new - {number}
    file.new = {number}
    desk.decide(file)
    file.new |= earlier


def _detach(
    desk: Desk, placement: Placement, letter: _Letter, joint: Joint, marks: set[str]
) -> tuple[Joint, ItemRef | None]:
    """L16 (a), (b), T17: whether the message opens a thread of its own; and the item that row 3 is asked about."""
    item = letter.item
    files = [desk.files[label] for label in placement.joins(joint)]
    if not files:
        return joint, item
    slot, _ = merge([(file.age, file.state.slot) for file in files])
    if placement.thread_of(joint.own) is not None:  # heard of: what it would take along is in that thread already
        if item is not None and slot.item is not None and slot.item != item:
            marks.add(str(Flag.SMART_BCC_CONFLICT))
            return joint, None
        return joint, item
    if slot.item is None:
        return joint, item
    other_item = item is not None and item != slot.item
    if other_item or _forwards_what_is_there(placement, files, letter, joint):
        marks.add(str(Flag.SMART_BCC_DUPLICATE))
        return Joint(joint.own, detached=True), item
    return joint, item


def _forwards_what_is_there(placement: Placement, files: Iterable[File], letter: _Letter, joint: Joint) -> bool:
    """L16 (b): a forward of a message that is stored there, or that another forward stored there forwards too."""
    last = _last_reference(letter, joint)
    if not letter.arrival.is_forward or last is None:
        return False
    if placement.is_borne(last) and placement.thread_of(last) in {file.label for file in files}:
        return True
    return any(each.forward and each.last_reference == last for file in files for each in file.letters)


def _last_reference(letter: _Letter, joint: Joint) -> bytes | None:
    """The node of the last id of References; of In-Reply-To, where there is no References."""
    if not joint.references:
        return None
    count = len(letter.arrival.message.references)
    return joint.references[count - 1] if count else joint.references[-1]


def _take_more(
    desk: Desk, placement: Placement, batch: _Batch, number: int, letter: _Letter, joint: Joint, *, decide_now: bool
) -> None:
    """Another copy of a message says more (T11): the message joins what that refers to, and is asked about anew.

    Whichever copy came first, people and references are the same in the end.
    """
    label = placement.thread_of(letter.own)
    assert label is not None, "a stored message bears its id"
    position, known = next((i, each) for i, each in enumerate(desk.files[label].letters) if each.id == number)
    people = united(known.participants, _participants(letter.arrival, desk.office))
    refers = united(known.refers, references_of(letter.arrival.message))
    if (people, refers) == (known.participants, known.refers):
        return
    desk.files[label].letters[position] = replace(
        known, participants=people, refers=refers, evidence={**known.evidence, **dict(letter.arrival.forwarded)}
    )
    label, _, before = placement.place(joint._replace(detached=known.detached), again=True)
    file = desk.unite(label, before)
    for gone in before:
        if gone != label and gone in batch.touched:
            batch.touched[label] = batch.touched.pop(gone)
    file.new.add(number)
    if number > 0:
        batch.more.add(number)
    batch.touched[label] = (letter.arrival.mailbox, shown_id(known.message_id))
    if decide_now:
        _decide_one(desk, file, number)


def united(one: tuple[_T, ...], other: tuple[_T, ...]) -> tuple[_T, ...]:
    """What either has: the same whichever was there first, in the order of the longer one."""
    if set(other) <= set(one):
        return one
    first, second = sorted((one, other), key=lambda each: (-len(each), each))
    return tuple(dict.fromkeys(first + second))


async def _ask_from_the_first(desk: Desk, placement: Placement, batch: _Batch, off: switched.TurnedUp) -> None:
    """Row 6: what turns up where linking is on is asked about from its first message on (`switched`), also where this
    batch has brought more of the thread."""
    turned_up = {placement.thread_of(node_) for node_ in off}
    for label in batch.touched:
        file = desk.files[label]
        if label in turned_up and file.state.slot.item is None:
            file.new |= {each.id for each in file.letters}
            if batch.undecided:
                await mailroom.unsettle(desk.connection, [each.id for each in file.letters if each.id > 0])


def _delivered_again(
    desk: Desk, placement: Placement, batch: _Batch, number: int, letter: _Letter, *, is_filed: bool
) -> None:
    """L16: a stored message is delivered again, to an item's address: row 3 if the slot is empty, else a conflict."""
    label = placement.thread_of(letter.own)
    assert label is not None, "a stored message bears its id"
    file = desk.files[label]
    position = next(i for i, each in enumerate(file.letters) if each.id == number)
    known = file.letters[position]
    marks = set[str]()
    item = letter.item
    if letter.unknown_item:
        marks.add(str(Flag.SMART_BCC_UNKNOWN_ITEM))
    is_retry = is_filed or (known.names is not None and _is_named(known.names, letter))
    if item is not None and not is_retry:
        if file.state.slot.item is None:
            file.names[number] = item
        elif not file.state.slot.item.is_same(item):
            marks.add(str(Flag.SMART_BCC_CONFLICT))
    if number not in file.names and marks <= known.marks:
        return  # the same delivery once more (RFC 1047)
    for said in sorted(marks):
        file.mark(position, said)
    file.new.add(number)
    batch.touched[label] = (letter.arrival.mailbox, shown_id(known.message_id))
    _decide_one(desk, file, number)


def _is_filed_for(desk: Desk, placement: Placement, letter: _Letter, numbers: Mapping[bytes, int]) -> bool:
    """Whether a message is this mail, filed for this item when its recipients came in another order, or when the
    directory was another. `numbers`: of the messages that are there, by identity."""
    if not numbers.keys().isdisjoint(letter.copies):
        return True
    mail, identity = letter.mail
    label, number = placement.thread_of(mail), numbers.get(identity)
    return label is not None and any(
        each.id == number and each.names is not None and _is_named(each.names, letter)
        for each in desk.files[label].letters
    )


def _is_named(ref: ItemRef, letter: _Letter) -> bool:
    return any(named is not None and ref.is_same(named) for named in (letter.item, letter.named))


def _new_message(
    number: int,
    letter: _Letter,
    marks: frozenset[str],
    office: Office,
    item: ItemRef | None,
    last_reference: bytes | None,
    *,
    detached: bool,
    undecided: bool,
) -> NewMessage:
    arrival, message = letter.arrival, letter.arrival.message
    return NewMessage(
        id=number,
        node=letter.own,
        message_id=mailroom.storable(message.message_id),
        made_id=message.made_id,
        sent_at=message.sent_at,
        subject=message.subject,
        base_subject=message.base_subject,
        participants=_participants(arrival, office),
        evidence=dict(arrival.forwarded),
        refers=references_of(message),
        last_reference=last_reference,
        forward=arrival.is_forward,
        detached=detached,
        names=item,
        marks=marks,
        undecided=undecided,
        identity=letter.identity,
        received_at=message.received_at,
        headers=message.headers,
        size=arrival.size,
    )


async def _number(desk: Desk, placement: Placement, batch: _Batch) -> tuple[dict[int, int], dict[bytes, Known]]:
    """Gives new threads their labels and carries merges out. Returns the real number of each new message, and the
    nodes to be written once the threads are there."""
    connection = desk.connection
    placed = placement.result()
    opened = sorted(placed.opened, reverse=True)
    labels = dict(zip(opened, await mailroom.new_labels(connection, len(opened)), strict=True))
    numbers = dict(zip(batch.new, await mailroom.new_numbers(connection, len(batch.new)), strict=True))
    for old in list(batch.touched):
        new, file = labels.get(old, old), desk.files.pop(old)
        desk.sum_up(file, new, placement.size(old).ids)
        desk.files[new] = file
        batch.touched[new] = batch.touched.pop(old)
    for file in desk.files.values():
        if file.buried:
            await _bury(desk, file)
    nodes = {each: Known(labels.get(k.thread, k.thread), k.borne, k.detached) for each, k in placed.nodes.items()}
    return numbers, nodes


async def _write_messages(
    desk: Desk,
    batch: _Batch,
    numbers: Mapping[int, int],
    letters: Sequence[_Letter],
    stored: Mapping[bytes, int],
    seen: Mapping[bytes, int],
) -> None:
    """Writes the new messages, and where each of the batch lies."""
    rows = {each.id: each for file in desk.files.values() for each in file.letters if isinstance(each, NewMessage)}
    new = {numbers[number]: rows[number] for number in batch.new}
    more = [each for file in desk.files.values() for each in file.letters if each.id in batch.more]
    copies = [each for each in letters if each.copy and each.identity in seen]
    raws = batch.raws | await _store_raws(desk.connection, copies)
    raw_of = {numbers[number]: raws[identity] for identity, number in seen.items() if identity in raws}
    await mailroom.store(desk.connection, desk.scope.id, new, raw_of)
    await mailroom.say_more(desk.connection, more)
    if batch.undecided:
        await mailroom.unsettle(desk.connection, batch.more)
    numbers_of = dict(stored) | {identity: numbers[number] for identity, number in seen.items()}
    await _note_places(desk.connection, batch, letters, numbers_of)


async def _bury(desk: Desk, file: File) -> None:
    connection = desk.connection
    await mailroom.relabel(connection, file.label, file.buried)
    await links.forget_links(connection, file.buried)
    aliases = {number for number in file.numbers if number > 0} - {file.state.number}
    await mailroom.bury(connection, file.label, file.buried, file.state.number, aliases)


async def _store_raws(connection: Connection, letters: Iterable[_Letter]) -> dict[bytes, bytes]:
    """Stores the bytes of mails that are kept whole, of two with one identity those of the first. Returns, by
    identity, their SHA-256."""
    raws: dict[bytes, bytes | Packed] = {}
    for each in letters:
        if each.arrival.raw is not None:
            raws.setdefault(each.identity, each.arrival.raw)
    packed = {identity: raw for identity, raw in raws.items() if isinstance(raw, Packed)}
    loose = {identity: raw for identity, raw in raws.items() if isinstance(raw, bytes)}
    if loose:
        packed |= zip(loose, await asyncio.to_thread(mailroom.pack, list(loose.values())), strict=True)
    if packed:
        await mailroom.store_raw(connection, packed.values())
    return {identity: each.sha256 for identity, each in packed.items()}


async def _imported_to(connection: Connection, arrivals: Iterable[Arrival]) -> dict[str, int]:
    """By mailbox, the folder in which its mail lies that comes from files."""
    mailboxes = {each.mailbox for each in arrivals if each.place is None and each.mailbox is not None}
    return {mailbox: await cursors.imported_folder(connection, mailbox) for mailbox in sorted(mailboxes)}


async def _note_places(
    connection: Connection, batch: _Batch, letters: Iterable[_Letter], numbers: Mapping[bytes, int]
) -> None:
    """Notes where each message lies (T11: once stored, in several places). `numbers`: by identity."""
    by_folder: dict[tuple[int, int], list[tuple[int, int | None, str]]] = {}
    for each in letters:
        arrival, number = each.arrival, numbers[each.identity]
        if arrival.place is not None:
            place = arrival.place
            listed = by_folder.setdefault((place.folder, place.uidvalidity), [])
            listed.append((place.uid, number, cursors.STORED))
        elif arrival.mailbox is not None:
            listed = by_folder.setdefault((batch.imported_to[arrival.mailbox], 0), [])
            listed.append((number, number, cursors.STORED))
    for (folder, uidvalidity), found in by_folder.items():
        await cursors.record(connection, folder, uidvalidity, list(dict.fromkeys(found)))


async def decide_undecided(
    connection: Connection,
    office: Office,
    owner: str,
    channel: Channel,
    threads: Sequence[int],
    merges: Mapping[int, Iterable[Merged]],
    *,
    instance: str,
) -> list[dict[str, Any]]:
    """Ends an import: decides threads (labels) whose new messages were placed and left undecided (`Order.LATER`).

    `merges`: by label, what filing its batches said of threads that became one.
    """
    scope = await mailroom.lock_scope(connection, owner, channel)
    desk = Desk(connection, scope, office, instance=instance)
    await desk.open(threads)
    files = [file for file in desk.files.values() if file.new]
    for file in files:
        for each in merges.get(file.label, ()):
            if file.trigger is not Trigger.MERGE:
                file.slot_before = each.slot_before
            file.trigger = Trigger.MERGE
            file.lost = tuple(sorted({*file.lost, *each.lost} - {file.state.slot.item}))
    lies_in = await cursors.mailboxes_of(connection, [file.label for file in files]) if channel == IMAP else {}
    lines: list[dict[str, Any]] = []
    for portion in in_portions(files):
        about = {}
        for file in portion:
            desk.decide(file)
            newest = next(each for each in reversed(file.letters) if each.id in file.new)
            about[file.label] = (min(lies_in.get(file.label, ()), default=None), shown_id(newest.message_id))
        lines += await desk.put_back(portion, about=about)
    return lines
