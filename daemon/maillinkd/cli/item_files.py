"""Items in files, as `import items` takes them: JSON Lines, and the tables that Pipedrive exports (CSV, XLSX)."""

import codecs
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, TypeVar
from zoneinfo import ZoneInfo

import typer

from maillinkd.cli import values
from maillinkd.directory import pipedrive
from maillinkd.directory.item import Item, ItemKind, ItemRef
from maillinkd.directory.lines import Change, LineError, read_line
from maillinkd.directory.pipedrive import Named, ZoneNeeded
from maillinkd.directory.table import Table, TableError, read_csv
from maillinkd.ingest import changes
from maillinkd.ingest.house import House
from maillinkd.store import items
from maillinkd.store.database import Connection

SHARED_CHUNK = 150
"""Items a transaction, some 20 ms, while other processes want to write too."""
CHUNK = 1_000
"""The same where nobody else does."""
MAX_LINE = 10_000_000
"""Bytes; no item is longer."""
MAX_TOLD = 1_000
"""Problems of a file that are told one by one."""

_ZIP = b"PK\x03\x04"
_OLD_OFFICE = bytes.fromhex("d0cf11e0a1b11ae1")
_LINES = (".jsonl", ".ndjson", ".json")

_Key = tuple[ItemKind, str]
_T = TypeVar("_T")


@dataclass
class Found:
    """What the files say."""

    changes: list[Change] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    """`file:line: why`."""
    notes: list[str] = field(default_factory=list)
    """`file: what`, where nothing is wrong."""
    wanted: dict[int, tuple[str, tuple[Named, ...]]] = field(default_factory=dict)
    """By place in `changes`: `file:line`, and the items that this line names by their names."""
    aside: set[int] = field(default_factory=set)
    """Places of changes that were said of an item in a line about another one."""


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
    return frozenset(values.kind(name, "--complete") for name in names)


def zone(name: str | None) -> tzinfo | None:
    """The zone of `--timezone`, by its name in the IANA database."""
    if name is None:
        return None
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # what zoneinfo raises for odd names, directories, and unknown ones
        raise typer.BadParameter(f"--timezone: expected a zone such as Europe/Berlin or UTC, not {name!r}") from None


def encoding(name: str | None) -> str | None:
    """The encoding of `--encoding`, by a name that Python knows."""
    if name is None:
        return None
    try:
        "".encode(name)  # refuses codecs that are not of texts
        return codecs.lookup(name).name
    except (LookupError, ValueError):
        raise typer.BadParameter(f"--encoding: expected an encoding such as cp1252, not {name!r}") from None


def read(files: Sequence[Path], zone: tzinfo | None = None, encoding: str | None = None) -> Found:
    """Reads all files; a file or a line that cannot be read stops nothing else.

    `zone`: of times in tables that say none. Raises typer.BadParameter where it is needed and None.
    """
    found = Found()
    for path in files:
        try:
            if str(path) == "-":
                _read_stream(path, sys.stdin.buffer, found, zone, encoding)
                continue
            with path.open("rb") as stream:
                _read_stream(path, stream, found, zone, encoding)
        except OSError as error:
            found.problems.append(f"{path}: {error.strerror}")
    return found


def _read_stream(path: Path, stream: BinaryIO, found: Found, zone: tzinfo | None, encoding: str | None) -> None:
    if stream.seekable():
        _read_file(path, stream, found, zone, encoding)
        return
    with TemporaryFile() as kept:  # a pipe; tables are looked at twice
        shutil.copyfileobj(stream, kept)
        kept.seek(0)
        _read_file(path, kept, found, zone, encoding)


def _read_file(path: Path, stream: BinaryIO, found: Found, zone: tzinfo | None, encoding: str | None) -> None:
    head = stream.read(512)
    stream.seek(0)
    if not head.startswith((_ZIP, _OLD_OFFICE)) and (
        path.suffix.lower() in _LINES or head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"")
    ):
        _read_lines(str(path), stream, found)
        return
    before = len(found.problems)
    try:
        _read_table(str(path), _table(stream, head, encoding), found, zone)
    except ZoneNeeded as error:
        raise typer.BadParameter(
            f"{path}:{error}; say which it is with --timezone, as in --timezone Europe/Berlin"
        ) from None
    except TableError as error:
        found.problems.append(f"{path}:{error.row}: {error}" if error.row else f"{path}: {error}")
    if len(found.problems) - before > MAX_TOLD:
        rest = len(found.problems) - before - MAX_TOLD
        found.problems[before + MAX_TOLD :] = [f"{path}: {rest} more lines are wrong or unclear"]


def _table(stream: BinaryIO, head: bytes, encoding: str | None) -> Table:
    if head.startswith(_OLD_OFFICE):
        raise TableError(0, "is an old workbook (.xls), or one with a password: save it as .xlsx without, or as CSV")
    if head.startswith(_ZIP):
        from maillinkd.directory.workbook import read_xlsx

        return read_xlsx(stream)
    return read_csv(stream, pipedrive.known_headers, encoding)


def _read_table(name: str, table: Table, found: Found, zone: tzinfo | None) -> None:
    headers = next(table.rows, None)
    if headers is None:
        return
    export = pipedrive.columns_of(headers.cells)
    found.notes += [f"{name}: {note}" for note in export.notes()]
    for reading in pipedrive.read_rows(table, export, zone):
        place = f"{name}:{reading.row}"
        found.problems += [f"{place}: {problem}" for problem in reading.problems]
        for draft in reading.drafts:
            if draft.wanted:
                found.wanted[len(found.changes)] = place, draft.wanted
            if draft.aside:
                found.aside.add(len(found.changes))
            found.changes.append(draft.change)


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
    told = {change.ref.kind for number, change in enumerate(found.changes) if number not in found.aside}
    gone: list[Change] = []
    async with house.database.reading() as connection:
        for some in _chunks([change.ref for change in found.changes], 5_000):
            known |= {(each.ref.kind, each.ref.key): each for each in (await items.read(connection, some)).values()}
        bearers = await _bearers(connection, found)
        for kind in sorted(complete):
            others = await items.listing(connection, kind)
            gone += _missing(kind, others, seen if kind in told else (), found, result.problems)
    for number, change in enumerate(found.changes):
        if number in found.wanted:
            place, wanted = found.wanted[number]
            change, unclear = pipedrive.resolve(change, wanted, bearers)
            result.problems += [f"{place}: {problem}" for problem in unclear]
        if number in found.aside:
            change = pipedrive.beside(change, known.get(_key(change)))
        if change.ref.kind in complete and "deleted" not in change.fields:
            change = replace(change, fields={**change.fields, "deleted": False})  # it is there (again)
        before = known.get(_key(change))
        after = change.apply(before, now)
        if after != before:
            result.changes.append(change)
        result.new += before is None
        result.changed += before is not None and after != before
        result.unchanged += after == before
        known[_key(change)] = after
    result.changes += gone
    result.deleted = len(gone)
    return result


async def _bearers(connection: Connection, found: Found) -> dict[tuple[ItemKind, str], list[ItemRef]]:
    """Who bears the names that the files want: what is known, and what the files themselves say, which holds."""
    wanted = {(each.kind, each.name) for _, named in found.wanted.values() for each in named}
    known: dict[_Key, tuple[ItemRef, str]] = {}
    for kind in sorted({kind for kind, _ in wanted}):
        known |= {(ref.kind, ref.key): (ref, title) for ref, title in await items.titles(connection, kind)}
    for change in found.changes:
        if change.fields.get("deleted"):
            known.pop(_key(change), None)
        elif title := change.fields.get("title"):
            known[_key(change)] = change.ref, title
    return pipedrive.bearers(known.values(), wanted)


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
    if not seen:
        problems.append(f"--complete {kind}: the files have none at all, so nothing is taken as deleted")
        return []
    return [Change(item.ref, {"deleted": True}) for item in gone]


async def carry_out(house: House, plan: Plan, advance: Callable[[int], None]) -> None:
    """Makes the changes, so many in a transaction."""
    advance(plan.unchanged)
    for some in _chunks(plan.changes, SHARED_CHUNK if house.database.is_shared() else CHUNK):
        await changes.import_items(house, some)
        advance(len(some))
    await house.note_told()


def _key(change: Change) -> _Key:
    return change.ref.kind, change.ref.key


def _chunks(values: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
