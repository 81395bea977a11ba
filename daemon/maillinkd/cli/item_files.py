"""Items in files, as `import items` takes them: JSON Lines."""

import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import typer

from maillinkd.directory.item import Item, ItemKind
from maillinkd.directory.lines import Change, LineError, read_line
from maillinkd.ingest.house import House
from maillinkd.store import items

CHUNK = 200
"""Items a transaction: bulk work lets other writers in between."""
MAX_LINE = 10_000_000
"""Bytes; no item is longer."""

_Key = tuple[ItemKind, str]
_T = TypeVar("_T")


@dataclass
class Found:
    """What the files say."""

    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """`file:line: why`."""


@dataclass
class Plan:
    """What is to be done, and what it comes to."""

    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0


def kinds(names: Iterable[str]) -> frozenset[ItemKind]:
    """The kinds of `--complete`."""
    found = set()
    for name in names:
        if name.lower() not in ItemKind.__members__.values():
            raise typer.BadParameter(f"--complete: expected one of {', '.join(ItemKind)}, not {name!r}")
        found.add(ItemKind(name.lower()))
    return frozenset(found)


def read(files: Sequence[Path]) -> Found:
    """Reads all files; a file or a line that cannot be read stops nothing else."""
    found = Found()
    for path in files:
        if str(path) == "-":
            _read_lines("-", sys.stdin.buffer, found)
            continue
        try:
            with path.open("rb") as stream:
                _read_lines(str(path), stream, found)
        except OSError as error:
            found.problems.append(f"{path}: {error.strerror}")
    return found


def _read_lines(name: str, stream: BinaryIO, found: Found) -> None:
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")  # some editors begin a file with a byte order mark
        if not line.strip():
            continue
        try:
            found.changes.append(read_line(line))
        except LineError as error:
            found.problems.append(f"{name}:{number}: {error}")


async def plan(house: House, found: Found, complete: Collection[ItemKind]) -> Plan:
    """Compares what the files say with what is known."""
    result = Plan()
    now = datetime.now(UTC)
    known: dict[_Key, Item] = {}
    seen = {_key(change) for change in found.changes}
    gone: list[Change] = []
    async with house.database.reading() as connection:
        for some in _chunks([change.ref for change in found.changes]):
            known |= {(each.ref.kind, each.ref.key): each for each in (await items.read(connection, some)).values()}
        for kind in sorted(complete):
            others = await items.listing(connection, kind)
            gone += _missing(kind, others, seen, found, result.problems)
    for change in found.changes:
        if change.ref.kind in complete and "deleted" not in change.fields:
            change = replace(change, fields={**change.fields, "deleted": False})  # it is there (again)
        result.changes.append(change)
        before = known.get(_key(change))
        after = change.apply(before, now)
        result.new += before is None
        result.changed += before is not None and after != before
        result.unchanged += after == before
        known[_key(change)] = after
    result.changes += gone
    result.deleted = len(gone)
    return result


def _missing(
    kind: ItemKind, others: Sequence[Item], seen: Collection[_Key], found: Found, problems: list[str]
) -> list[Change]:
    """What counts as deleted because the files, complete for this kind, do not have it.

    A file with wrong lines, or without a single item of the kind, is not believed to be complete.
    """
    gone = [item for item in others if not item.deleted and (kind, item.ref.key) not in seen]
    if not gone:
        return []
    if found.problems:
        problems.append(f"--complete {kind}: {len(gone)} not in the files are left as they are, for lines are wrong")
        return []
    if not any(each_kind is kind for each_kind, _ in seen):
        problems.append(f"--complete {kind}: the files have none at all, so nothing is taken as deleted")
        return []
    return [Change(item.ref, {"deleted": True}) for item in gone]


async def carry_out(house: House, plan: Plan, advance: Callable[[int], None]) -> None:
    """Makes the changes, so many in a transaction."""
    for some in _chunks(plan.changes):
        await house.import_items(some)
        advance(len(some))
    await house.note_told()


def _key(change: Change) -> _Key:
    return change.ref.kind, change.ref.key


def _chunks(values: Sequence[_T]) -> list[Sequence[_T]]:
    return [values[start : start + CHUNK] for start in range(0, len(values), CHUNK)]
