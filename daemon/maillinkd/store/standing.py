"""Where a thread stood before a batch changed it, as the journal keeps it for `undo` (linking.md L20)."""

from collections.abc import Mapping
from typing import Any

from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import Origin, Reason
from maillinkd.linker.snapshot import slot_facts, slot_of
from maillinkd.store.links import Act, ThreadState


def facts_of(state: ThreadState) -> dict[str, Any]:
    """All that a decision can change of a thread, as JSON."""
    return {
        "slot": slot_facts(state.slot),
        "reason": state.reason,
        "candidates": list(state.candidates),
        "flags": sorted(state.flags),
        "slot_lost": state.slot_lost,
        "decision": state.decision,
        "links": [[str(act.ref), act.decision, str(act.origin)] for act in state.acts],
        "tombstones": [[str(act.ref), act.decision] for act in state.tombstones],
    }


def restored(state: ThreadState, facts: Mapping[str, Any]) -> ThreadState:
    """The thread as it stood when `facts_of` was asked; what mail says of it stays as it is now."""
    return state._replace(
        slot=slot_of(facts["slot"]),
        reason=Reason(facts["reason"]) if facts["reason"] else None,
        candidates=tuple(facts["candidates"]),
        flags=frozenset(facts["flags"]),
        slot_lost=facts["slot_lost"],
        decision=facts["decision"],
        acts=tuple(Act(ItemRef.parse(ref), decision, Origin(origin)) for ref, decision, origin in facts["links"]),
        tombstones=tuple(Act(ItemRef.parse(ref), decision, Origin.HAND) for ref, decision in facts["tombstones"]),
    )
