"""`verify`: makes every decision again from its facts, and looks whether journal and database are whole (L24)."""

import json
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar

from maillinkd.directory.item import ItemRef
from maillinkd.linker.decision import Decision, Flag, Outcome, Reason, Trigger, outcome
from maillinkd.linker.versions import UnknownVersion, made_again
from maillinkd.store import invariants, journal
from maillinkd.store.database import Connection
from maillinkd.store.invariants import Problem, Summary
from maillinkd.store.journal import Recorded, Row
from maillinkd.store.mailroom import Scope

PAGE = 1_000
"""Decisions that are read at once."""

_BROUGHT = frozenset(
    {
        Flag.SMART_BCC_UNKNOWN_ITEM,
        Flag.SMART_BCC_DUPLICATE,
        Flag.SMART_BCC_CONFLICT,
        Flag.SLOT_LOST_IN_MERGE,
        Flag.PROVISIONAL,
    }
)
"""Flags that no row sets: they say what mail, a merge or a first sync brought."""
_COLUMNS = ("thread", "reason", "mailbox", "batch", "rule_version")
"""What stands both in a column and in the line."""
_TICK = timedelta(milliseconds=1)
"""A line's timestamp is cut to this."""

Line = Mapping[str, Any]
_T = TypeVar("_T")


@dataclass
class _Chains:
    """How far the chain of each scope was followed."""

    scopes: dict[int, Scope]
    newest: dict[int, bytes] = field(default_factory=dict)

    def place(self, row: Row) -> str:
        """Where a decision stands, for people."""
        scope = self.scopes.get(row.scope)
        named = f"{scope.owner}/{scope.channel}" if scope else f"scope {row.scope}"
        return f"decision {row.number} ({named}, thread {row.thread})"


@dataclass(frozen=True, slots=True)
class _Earlier:
    """What decisions of a page repeat."""

    lines: Mapping[int, Line]
    """By number of a decision of the directory: the line before it about the same thread."""
    undone: Mapping[int, Recorded]
    """By number: the decisions that an undo of the page took back."""
    filled_by: Mapping[int, Recorded]
    """By number: the decisions that filled the slots that the directory left as they were."""


async def verify(connection: Connection, summary: Summary, progress: Callable[[int], None]) -> AsyncIterator[Problem]:
    """Everything that is wrong, within one reading transaction. `summary` is filled as it goes on.

    Reads in pages, so that memory does not grow with the journal.
    """
    chains = _Chains({scope.id: scope for scope in await journal.scopes(connection)})
    async for problem in _journal(connection, chains, summary, progress):
        summary.problems += 1
        yield problem
    for problem in _ends(chains):
        summary.problems += 1
        yield problem
    async for problem in invariants.check(connection, summary, progress):
        summary.problems += 1
        yield problem


async def size(connection: Connection) -> int:
    """How many rows `verify` tells its progress about."""
    return await journal.count(connection) + await invariants.size(connection)


async def _journal(
    connection: Connection, chains: _Chains, summary: Summary, progress: Callable[[int], None]
) -> AsyncIterator[Problem]:
    after = 0
    while page := await journal.rows(connection, after, PAGE):
        after = page[-1].number
        earlier = await _what_they_repeat(connection, page)
        for row in page:
            for problem in _check(row, chains, earlier, summary):
                yield problem
        summary.decisions += len(page)
        progress(len(page))


async def _what_they_repeat(connection: Connection, page: Sequence[Row]) -> _Earlier:
    by_directory, undone, filled_by = set[int](), set[int](), set[int]()
    for row in page:
        if '"undoes":' in row.line and isinstance(number := _json(row.line).get("undoes"), int):
            undone.add(number)
        elif f'"trigger":"{Trigger.DIRECTORY}"' in row.line:
            by_directory.add(row.number)
            slot = _facts(row).get("slot")
            if isinstance(slot, dict) and isinstance(slot.get("decision"), int):
                filled_by.add(slot["decision"])
    return _Earlier(
        await _readable(journal.lines_before, connection, by_directory),
        await _readable(journal.recorded, connection, undone),
        await _readable(journal.recorded, connection, filled_by),
    )


async def _readable(
    read: Callable[[Connection, Collection[int]], Awaitable[Mapping[int, _T]]],
    connection: Connection,
    wanted: Collection[int],
) -> Mapping[int, _T]:
    """What the journal says of these decisions, without those that somebody has damaged: their own rows tell it."""
    if not wanted:
        return {}
    try:
        return await read(connection, wanted)
    except (ValueError, zlib.error):
        if len(wanted) == 1:
            return {}
    found: dict[int, _T] = {}
    for number in wanted:
        found.update(await _readable(read, connection, (number,)))
    return found


def _json(text: str | bytes) -> dict[str, Any]:
    """The object; empty where it is none, which `_check` tells."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _facts(row: Row) -> dict[str, Any]:
    try:
        return _json(row.written() or b"{}")
    except zlib.error:
        return {}


# -- one decision --------------------------------------------------------------------------------------------------


def _check(row: Row, chains: _Chains, earlier: _Earlier, summary: Summary) -> Iterator[Problem]:
    place = chains.place(row)
    if journal.link_of_chain(chains.newest.get(row.scope, b""), row.line, row.digest) != row.chain:
        said = "it does not follow from the one before it: this row or an earlier one of its scope was changed"
        yield Problem("chain", place, f"{said}, deleted or put in")
    chains.newest[row.scope] = row.chain
    line = _json(row.line)
    if not line:
        yield Problem("line", place, "its line is no JSON object")
        return
    for problem in _columns(row, line, chains.scopes.get(row.scope)):
        yield Problem("line", place, problem)
    try:
        written = row.written()
    except zlib.error as error:
        yield Problem("facts", place, f"its facts cannot be read: {error}")
        return
    if written is None:
        summary.erased += 1
        return
    if sha256(row.salt + written).digest() != row.digest:
        yield Problem("facts", place, "its facts are not those that it was made from: they were changed")
        return
    for problem in _made_again(row, line, _json(written), earlier):
        yield Problem("decision", place, problem)
    summary.made_again += 1


def _columns(row: Row, line: Line, scope: Scope | None) -> Iterator[str]:
    """Columns that say the same as the line, which the chain covers."""
    for name in _COLUMNS:
        if getattr(row, name) != line.get(name):
            yield f"its column {name} says {getattr(row, name)!r}, its line {line.get(name)!r}"
    if scope is not None and (line.get("owner"), line.get("channel")) != (scope.owner, scope.channel):
        yield f"its line is about {line.get('owner')}/{line.get('channel')}"
    try:
        at = datetime.fromisoformat(str(line.get("timestamp")))
        differs = not at <= row.at < at + _TICK
    except (TypeError, ValueError):
        differs = True
    if differs:
        yield f"its column at says {row.at.isoformat()}, its line {line.get('timestamp')}"


def _made_again(row: Row, line: Line, facts: Mapping[str, Any], earlier: _Earlier) -> Iterator[str]:
    """What the journal says otherwise than the rules do."""
    try:
        expected = _expected(row, line, facts, earlier)
    except UnknownVersion as unknown:
        yield f"it was made by {unknown}, which this program does not know: verify it with a newer one"
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield f"its line or its facts are not whole: {type(error).__name__}: {error}"
    else:
        for name, value in expected.items():
            if line.get(name) != value:
                yield f"its {name} is {_shown(line.get(name))}; its facts lead to {_shown(value)}"


def _expected(row: Row, line: Line, facts: Mapping[str, Any], earlier: _Earlier) -> dict[str, Any]:
    """What the line has to say."""
    trigger, reason = Trigger(line["trigger"]), Reason(line["reason"])
    if "undoes" in line:
        undone = earlier.undone.get(line["undoes"])
        if undone is None:
            raise ValueError(f"it undoes decision {line['undoes']}, which is not in the journal, or not whole")
        if undone.facts is None or not any(letter.get("new") for letter in undone.facts["letters"]):
            return _as_before(line, facts, undone)
    provisional = Flag.PROVISIONAL in line["flags"]
    found = made_again(row.rule_version, facts, trigger, reason, provisional=provisional)
    expected = _line_of(line, found)
    return expected | _repeated(row, line, facts, earlier) if trigger is Trigger.DIRECTORY else expected


def _line_of(line: Line, decision: Decision) -> dict[str, Any]:
    before = line["slot_before"]
    what = outcome(ItemRef.parse(before) if before else None, decision)
    slot = decision.slot.item and str(decision.slot.item)
    if line["trigger"] == Trigger.DIRECTORY and slot == before:
        what = Outcome.UNCHANGED
    brought = {flag for flag in line["flags"] if flag in _BROUGHT} - {Flag.SLOT_LOST_IN_MERGE}
    if "lost" in line:
        brought.add(Flag.SLOT_LOST_IN_MERGE)
    return {
        "outcome": str(what),
        "reason": str(decision.reason),
        "slot": slot,
        "persons": sorted(map(str, decision.links.persons)),
        "organizations": sorted(map(str, decision.links.organizations)),
        "candidates": [str(ref) for ref in decision.candidates],
        "flags": sorted({*map(str, decision.links.flags), *map(str, brought)}),
    }


def _repeated(row: Row, line: Line, facts: Mapping[str, Any], earlier: _Earlier) -> dict[str, Any]:
    """L24: a decision of the directory repeats slot and reason of the one before it, unless a lead was converted."""
    if line["reason"] == Reason.CONVERTED_LEAD_FOLLOWED and line["slot"] != line["slot_before"]:
        return {}
    before = earlier.lines.get(row.number)
    if before is None:  # an import was cut off before it decided the thread
        return {"slot": None, "reason": str(Reason.NO_KNOWN_PERSON), "candidates": []}
    repeated = {name: before[name] for name in ("slot", "reason", "candidates")}
    filled_by = earlier.filled_by.get(facts["slot"]["decision"] or 0)
    if filled_by is not None and filled_by.line["slot"] == facts["slot"]["item"]:
        repeated["slot"] = facts["slot"]["item"]  # L21: of a thread that went up in this one, before it was decided
    return repeated


def _as_before(line: Line, facts: Mapping[str, Any], undone: Recorded) -> dict[str, Any]:
    """L20: an undo brings back what was before the decision that it takes back; a lead as its deal (L10)."""
    if undone.facts is None:
        return {}
    before = undone.facts["before"]
    slot = before["slot"]["item"]
    if line["reason"] == Reason.CONVERTED_LEAD_FOLLOWED and line["slot"] != slot:
        return {"slot": facts["slot"]["item"], "candidates": []}
    return {"slot": slot, "reason": before["reason"], "candidates": list(before["candidates"])}


def _shown(value: object) -> str:
    if value is None:
        return "empty"
    return (" ".join(map(str, value)) or "empty") if isinstance(value, list) else str(value)


def _ends(chains: _Chains) -> Iterator[Problem]:
    """The end of each chain stands in its scope too, so that rows missing there are noticed."""
    for number, scope in chains.scopes.items():
        if chains.newest.get(number, b"") != scope.chain:
            said = "the newest decision is not the one that the scope remembers: the end was cut off, or added to"
            yield Problem("chain", f"scope {scope.owner}/{scope.channel}", said)
    for number in sorted(chains.newest.keys() - chains.scopes.keys()):
        yield Problem("chain", f"scope {number}", "it has decisions, and is not there")
