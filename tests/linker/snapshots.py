"""Snapshots in few words: anna of ourco writes with carla (person 3) and dora (person 4) of client 7."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import Origin, Reason, Slot
from maillinkd.linker.policy import Policy
from maillinkd.linker.snapshot import Letter, Person, SlotItem, Snapshot
from maillinkd.mail.message import Participant, Role

ANNA, BEN = "anna@ourco.example", "ben@ourco.example"
CARLA, DORA = "carla@client.example", "dora@client.example"
EVE, FRED, GINA = "eve@elsewhere.example", "fred@elsewhere.example", "gina@elsewhere.example"
INTERNAL = frozenset({ANNA, BEN})

CARLA_REF, DORA_REF, CLIENT = map(ItemRef.parse, ("person:3", "person:4", "organization:7"))
DEAL, OTHER, LEAD, PROJECT = map(ItemRef.parse, ("deal:61", "deal:62", "lead:l1", "project:p1"))

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def letter(
    minutes: float = 0,
    sender: str = CARLA,
    to: Sequence[str] = (ANNA,),
    *,
    cc: Sequence[str] = (),
    reply: bool = False,
    old: bool = False,
    names: ItemRef | None = None,
    people: Iterable[tuple[Role, str]] = (),
) -> Letter:
    """A message sent so many minutes after noon. `old`: it was there before this batch."""
    roles = [(Role.FROM, sender), *((Role.TO, each) for each in to), *((Role.CC, each) for each in cc), *people]
    return Letter(
        message_id=f"{minutes}@x",
        sent_at=at(minutes),
        participants=tuple(Participant(role, address) for role, address in roles),
        has_references=reply,
        new=not old,
        names=names,
    )


def item(
    ref: ItemRef = DEAL,
    *,
    minutes: float = -60,
    closed: bool = False,
    person: ItemRef | None = CARLA_REF,
    **more: Any,
) -> SlotItem:
    """An item added so many minutes after noon, which is an hour before the first mail if nothing is said."""
    return SlotItem(ref, open=not closed, added_at=at(minutes), person=person, **more)


def filled(ref: ItemRef = DEAL, origin: Origin = Origin.AUTO, *, minutes: float | None = -60) -> Slot:
    """A slot that an earlier decision filled."""
    reason = {
        Origin.AUTO: Reason.LINKED_SINGLE_OPEN_ITEM,
        Origin.SMART_BCC: Reason.SMART_BCC_EXPLICIT,
        Origin.HAND: Reason.MANUAL_LINK_KEPT,
    }[origin]
    added = at(minutes) if origin is Origin.AUTO and minutes is not None else None
    return Slot(ref, origin, added, 5, reason)


UNLINKED = Slot(origin=Origin.HAND)


def snapshot(
    *letters: Letter, items: Iterable[SlotItem] = (), switches: dict[str, Any] | None = None, **more: Any
) -> Snapshot:
    """Carla and Dora are known, and both are of client 7."""
    plain = Snapshot(
        letters=letters or (letter(),),
        policy=Policy().changed(**(switches or {})),
        internal=INTERNAL,
        known={CARLA: (CARLA_REF,), DORA: (DORA_REF,)},
        persons={ref: Person(ref, CLIENT) for ref in (CARLA_REF, DORA_REF)},
        items={each.ref: each for each in items},
    )
    return replace(plain, **more)
