"""Every version of the rules that ever decided can be asked again."""

import json
from dataclasses import replace

import pytest

from linker.snapshots import CARLA_REF, DEAL, OTHER, filled, item, letter, snapshot
from maillinkd.linker.decision import EMPTY, Decision, Reason, Trigger
from maillinkd.linker.policy import RULE_VERSION
from maillinkd.linker.rules import decide, decide_again, follow_directory
from maillinkd.linker.snapshot import Snapshot
from maillinkd.linker.versions import RULES, UnknownVersion, made_again

LINKED = Reason.LINKED_SINGLE_OPEN_ITEM


def again(given: Snapshot, trigger: Trigger, reason: Reason = LINKED, *, provisional: bool = False) -> Decision:
    """From the facts as the journal keeps them."""
    facts = json.loads(json.dumps(given.facts()))
    return made_again(RULE_VERSION, facts, trigger, reason, provisional=provisional)


def test_todays_rules_are_among_them() -> None:
    assert max(RULES) == RULE_VERSION
    assert set(RULES) == set(range(1, RULE_VERSION + 1))


@pytest.mark.parametrize("trigger", [Trigger.MESSAGE, Trigger.MERGE, Trigger.MANUAL, Trigger.RELEASE])
def test_mail_and_hands_are_decided_from_the_slot_as_it_was(trigger: Trigger) -> None:
    given = snapshot(items=[item(closed=True)], slot=filled())

    assert again(given, trigger) == decide(given)


def test_a_first_sync_decides_over_all_messages() -> None:
    """L26"""
    given = snapshot(letter(old=True), letter(10), items=[item(), item(OTHER, minutes=5)])

    assert again(given, Trigger.MESSAGE, provisional=True) == decide(given, from_the_start=True)


def test_decide_asks_rows_6_to_14() -> None:
    """L28"""
    given = snapshot(items=[item()], slot=EMPTY)

    assert again(given, Trigger.DECIDE) == decide_again(given)


def test_the_directory_leaves_slot_and_reason() -> None:
    """L6"""
    given = replace(snapshot(items=[item()], slot=filled()), tombstones=frozenset({CARLA_REF}))

    found = again(given, Trigger.DIRECTORY, Reason.KEPT_EXISTING_LINK)

    assert (found.slot.item, found.reason) == (DEAL, Reason.KEPT_EXISTING_LINK)
    assert found.links == follow_directory(given, Reason.KEPT_EXISTING_LINK)


def test_rules_of_a_newer_program_are_not_guessed() -> None:
    with pytest.raises(UnknownVersion, match="rule version 99"):
        made_again(99, {}, Trigger.MESSAGE, LINKED, provisional=False)
