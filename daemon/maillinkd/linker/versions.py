"""All versions of the rules that ever decided, so that each decision is checked by its own (linking.md L24)."""

from collections.abc import Callable, Mapping
from typing import Any

from maillinkd.linker.decision import Decision, Reason, Trigger
from maillinkd.linker.rules import decide, decide_again, follow_directory
from maillinkd.linker.snapshot import Snapshot

Facts = Mapping[str, Any]
Rules = Callable[[Facts, Trigger, Reason, bool], Decision]


class UnknownVersion(Exception):
    """Rules that this program does not know: a newer one made the decision."""


def made_again(version: int, facts: Facts, trigger: Trigger, reason: Reason, *, provisional: bool) -> Decision:
    """The decision that the rules of this version come to, from the facts in the journal.

    `reason` is what stands in the journal: the directory (L6, L10) asks no row, and repeats it. `provisional`: a
    first sync decided over all messages (L26). Raises UnknownVersion; KeyError, TypeError, ValueError where the facts
    are not whole.
    """
    if version not in RULES:
        raise UnknownVersion(f"rule version {version}")
    return RULES[version](facts, trigger, reason, provisional)


def _version_1(facts: Facts, trigger: Trigger, reason: Reason, provisional: bool) -> Decision:
    snapshot = Snapshot.of_facts(facts)
    match trigger:
        case Trigger.DIRECTORY:
            return Decision(snapshot.slot, reason, follow_directory(snapshot, reason))
        case Trigger.DECIDE:
            return decide_again(snapshot)
        case _:
            return decide(snapshot, from_the_start=provisional)


RULES: Mapping[int, Rules] = {1: _version_1}
"""By version. When `RULE_VERSION` rises, the function that is here now keeps a copy of the rules that it called."""
