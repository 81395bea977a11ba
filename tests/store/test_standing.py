"""What the journal keeps of a thread is all that a decision can change of it."""

import json

import pytest

from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import EMPTY, Origin, Reason, Slot
from maillinkd.linker.snapshot import moment
from maillinkd.store import standing
from maillinkd.store.links import Act, ThreadState
from maillinkd.store.mailroom import Scope
from store.shelf import NOON, at, state

SCOPE = Scope(1, "anna", "imap", b"")
DEAL, CARLA, CLIENT, DORA = map(ItemRef.parse, ("deal:61", "person:3", "organization:7", "person:4"))
FULL = state(
    SCOPE,
    7,
    reason=Reason.LINKED_SINGLE_OPEN_ITEM,
    candidates=("deal:61",),
    flags=frozenset({"ambiguous_person", "start_unknown"}),
    slot_lost=True,
    decision=41,
    slot=Slot(DEAL, Origin.AUTO, moment(1_767_603_600_000_001), 41, Reason.LINKED_SINGLE_OPEN_ITEM),
    acts=(Act(CARLA, 41, Origin.AUTO), Act(CLIENT, 40, Origin.HAND)),
    tombstones=(Act(DORA, 39, Origin.HAND),),
)


@pytest.mark.parametrize(
    "stood",
    [
        FULL,
        state(SCOPE, 7),
        FULL._replace(slot=EMPTY),
        FULL._replace(slot=Slot(origin=Origin.HAND)),
        FULL._replace(slot=Slot(DEAL, Origin.HAND, None, 41, Reason.MANUAL_LINK_KEPT)),
    ],
    ids=["everything", "nothing", "an empty slot", "unlinked by hand", "linked by hand"],
)
def test_what_is_kept_is_restored_whatever_came_between(stood: ThreadState) -> None:
    written = json.loads(json.dumps(standing.facts_of(stood)))

    for between in (FULL, state(SCOPE, 7)):
        assert standing.restored(between, written) == stood


def test_what_mail_says_of_the_thread_stays_as_it_is() -> None:
    now = FULL._replace(message_count=9, last_message_at=at(9), subject="Roof", started_at=NOON, number=3)

    found = standing.restored(now, standing.facts_of(state(SCOPE, 7)))

    assert (found.message_count, found.last_message_at, found.subject, found.number) == (9, at(9), "Roof", 3)
