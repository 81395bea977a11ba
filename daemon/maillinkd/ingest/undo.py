"""Takes back a batch of changes (linking.md L20): each thread stands again as it stood before."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.ingest import catalogue
from maillinkd.ingest.desk import Desk, File
from maillinkd.ingest.hand import NotPermitted, Refused
from maillinkd.ingest.office import Office
from maillinkd.linker.decision import Decision, Flag, Links, Origin, Trigger
from maillinkd.linker.snapshot import Snapshot
from maillinkd.store import batches, items, journal, mailroom, standing
from maillinkd.store.batches import UNDO, Later, Made
from maillinkd.store.database import Connection
from maillinkd.store.links import ThreadState
from maillinkd.store.mailroom import EXCLUDED


@dataclass(frozen=True, slots=True)
class Left:
    """A thread that is left as it is."""

    thread: int
    because: str
    decision: int | None = None
    """The later decision that stands in the way."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What taking back a batch came to."""

    lines: Sequence[dict[str, Any]]
    """A decision line for each thread that stands as before."""
    left: Sequence[Left]


async def decisions_of(connection: Connection, office: Office, user: str, batch: int) -> list[Made]:
    """The decisions that taking back a batch takes back.

    Raises Refused for a batch that is not known, and NotPermitted unless the user may change each of its threads
    (L17); what `decide` did only an admin takes back.
    """
    if user not in office.settings.users:
        raise NotPermitted(f"there is no user {user!r} in the configuration")
    command = await batches.command_of(connection, batch)
    if command is None:
        raise Refused(
            f"there is no batch {batch}: `maillinkd decisions --json` shows the batch of each change by hand"
        )
    if command == "decide" and not office.settings.users[user].admin:
        raise NotPermitted(f"batch {batch} was made by `decide`: only an admin may take it back, and {user} is none")
    made = await batches.made_by(connection, batch)
    foreign = [each for each in made if not office.may_change(user, each.owner)]
    if foreign:
        raise NotPermitted(
            "\n".join(f"{user} may not change thread {each.thread}: it is {each.owner}'s" for each in foreign)
        )
    return made


async def undo(
    connection: Connection,
    office: Office,
    user: str,
    decisions: Iterable[Made],
    batch: int | None,
    *,
    instance: str,
) -> tuple[Undone, int | None]:
    """Takes back these decisions of a batch, within the transaction of `connection`.

    A thread that mail, a merge, a hand or `decide` has decided since is left as it is. What the directory has changed
    since holds again at once (L6, L10), as a decision of its own. Returns what was done, and the number of the new
    batch, opened with the first thread that changes.
    """
    lines: list[dict[str, Any]] = []
    left: list[Left] = []
    by_scope = sorted(decisions, key=lambda each: (each.owner, each.channel, each.number))
    for (owner, channel), some in groupby(by_scope, key=lambda each: (each.owner, each.channel)):
        scope = await mailroom.lock_scope(connection, owner, channel)
        desk = Desk(connection, scope, office, instance=instance, actor=user)
        restored, kept = await _restore(desk, list(some))
        left += kept
        if restored and batch is None:
            batch = await journal.open_batch(connection, UNDO, user, datetime.now(UTC))
        lines += await desk.put_back([each.file for each in restored], batch=batch)
        moved = [each.file.label for each in restored if each.directory_moved]
        lines += await catalogue.follow(connection, office, moved, instance=instance) if moved else []
    return Undone(lines, left), batch


@dataclass(frozen=True, slots=True)
class _Restored:
    """A thread that stands as before."""

    file: File
    directory_moved: bool
    """Its people, or the lead in its slot, are no longer what they were when the batch was made."""


async def _restore(desk: Desk, decisions: Sequence[Made]) -> tuple[list[_Restored], list[Left]]:
    connection = desk.connection
    labels = await batches.labels_of(connection, {each.thread for each in decisions})
    facts = await batches.facts_of(connection, {each.number for each in decisions})
    before = {number: known["before"] for number, known in facts.items() if known is not None and "before" in known}
    leads = await _open(desk, set(labels.values()), before.values())
    shown = {each: desk.files[label].state.number for each, label in labels.items()}
    since = [
        each
        for each in await batches.later(connection, {*shown, *shown.values()}, min(each.number for each in decisions))
        if each.trigger != Trigger.DIRECTORY  # persons and converted leads are followed again (L6, L10)
    ]
    restored: list[_Restored] = []
    left: list[Left] = []
    for each in decisions:
        names = {each.thread, shown.get(each.thread)}
        newer = _in_the_way(one for one in since if one.number > each.number and one.thread in names)
        file = desk.files[labels[each.thread]] if each.thread in labels else None
        known = facts[each.number]
        if file is None:
            left.append(Left(each.thread, "it is no longer there"))
        elif newer is not None:
            left.append(Left(each.thread, _why(newer), newer.number))
        elif file.new:
            left.append(Left(each.thread, "mail has come since, and is not decided yet"))
        elif known is None or each.number not in before:
            left.append(Left(each.thread, f"the journal no longer has what was before decision {each.number}"))
        else:
            file.undoes = each.number
            restored.append(_stand_as_before(desk, file, known, leads))
    return restored, left


async def _open(desk: Desk, labels: Collection[int], before: Collection[Mapping[str, Any]]) -> Collection[str]:
    """Takes the threads off the shelf, with what they were linked to. Returns the leads (keys) that became deals."""
    slots = [ItemRef.parse(each["slot"]["item"]) for each in before if each["slot"]["item"]]
    by_hand = [ItemRef.parse(ref) for each in before for ref, _, origin in each["links"] if origin == Origin.HAND]
    await desk.open(labels, named=slots, refs=by_hand)
    leads = {ref.key for ref in slots if ref.kind is ItemKind.LEAD}
    return await items.converted(desk.connection, leads) if leads else ()


def _in_the_way(later: Iterable[Later]) -> Later | None:
    """Of the later decisions about a thread the one to be named, leaving out those that were taken back themselves.

    One that cannot be taken back, where there is one; else the latest, which is to be taken back first.
    """
    effective: list[Later] = []
    for each in later:
        if effective and effective[-1].number == each.undoes:
            effective.pop()
        else:
            effective.append(each)
    return next((each for each in effective if each.batch is None), effective[-1] if effective else None)


def _why(newer: Later) -> str:
    match newer.trigger:
        case Trigger.MERGE:
            return (
                f"it has become one with another thread since (decision {newer.number} about thread {newer.thread})"
            )
        case Trigger.MANUAL | Trigger.DECIDE:
            first = f": undo batch {newer.batch} first" if newer.batch is not None else ""
            who = f"{newer.actor} has changed it" if newer.trigger == Trigger.MANUAL else "`decide` has changed it"
            return f"{who} since (decision {newer.number}){first}"
    return f"mail has been decided since (decision {newer.number}): link or unlink it by hand"


def _stand_as_before(desk: Desk, file: File, facts: Mapping[str, Any], converted: Collection[str]) -> _Restored:
    then = Snapshot.of_facts(facts)
    file.trigger = Trigger.MANUAL
    file.state = before = standing.restored(file.state, facts["before"])
    now = desk.look(file)
    undecided = {letter.message_id for letter in then.letters if letter.new}
    if undecided:
        _decide_anew(desk, file, undecided)
    else:
        assert before.reason is not None, "a thread without new messages was decided before"
        candidates = tuple(map(ItemRef.parse, before.candidates))
        desk.settle(file, now, Decision(before.slot, before.reason, _links_then(before, now), candidates))
        file.repeats = True
    item = file.state.slot.item
    is_deal_now = item is not None and item.kind is ItemKind.LEAD and item.key in converted
    return _Restored(file, is_deal_now or not _same_people(then, now))


def _decide_anew(desk: Desk, file: File, message_ids: Collection[str]) -> None:
    """The batch had also decided messages of an import: they are decided now as they would have been without it."""
    for position, letter in enumerate(file.letters):
        if letter.message_id in message_ids:
            file.new.add(letter.id)
            if EXCLUDED in letter.marks:
                file.letters[position] = replace(letter, marks=letter.marks - {EXCLUDED})
                file.marked.add(letter.id)
    desk.decide(file)


def _same_people(then: Snapshot, now: Snapshot) -> bool:
    """Whether the directory has them as it had. If so the thread's links are not looked at again: a policy that was
    changed since the thread was decided would change them."""
    return then.known == now.known and all(then.persons.get(ref) == person for ref, person in now.persons.items())


def _links_then(before: ThreadState, now: Snapshot) -> Links:
    """A person whom a hand had linked and who is deleted is kept, unseen (`links.acts_after`)."""
    living = {act.ref for act in before.acts if act.origin is not Origin.HAND or act.ref in now.persons}
    return Links(
        frozenset(ref for ref in living if ref.kind is ItemKind.PERSON),
        before.of_kind(ItemKind.ORGANIZATION),
        frozenset(map(Flag, before.flags)),
    )
