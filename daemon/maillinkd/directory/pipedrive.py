"""Pipedrive's exports: what the columns of their tables mean, and what a row says of items.

A header names its record and its field, `Deal - Contact person`. An export of deals may have columns of the persons
and organizations that the deals are linked to. What a record is linked to is named by an id where there is such a
column, else by its name; a name counts if exactly one item bears it. Headers are read in English.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from typing import Any

from maillinkd.directory.item import ITEM_ID, Item, ItemKind, ItemRef
from maillinkd.directory.lines import STATUSES, Change, LineError, read_addresses
from maillinkd.directory.table import Cell, Row, Table, TableError, moment

MAX_TEXT = 32_767
"""Characters of a cell that is taken over (Excel's limit)."""

_KINDS = {
    "deal": ItemKind.DEAL,
    "lead": ItemKind.LEAD,
    "project": ItemKind.PROJECT,
    "person": ItemKind.PERSON,
    "contact": ItemKind.PERSON,
    "organization": ItemKind.ORGANIZATION,
    "organisation": ItemKind.ORGANIZATION,
}
_MAIN = (ItemKind.PROJECT, ItemKind.LEAD, ItemKind.DEAL, ItemKind.PERSON, ItemKind.ORGANIZATION)
"""Of the records that have columns, the first of these is what the rows are about."""
_OTHERS = ("activity", "product", "note", "file", "campaign")
"""Exports that are not about what mail can be linked to."""

_HEADER = re.compile(rf"({'|'.join((*_KINDS, *_OTHERS))})\s*[-\u2013\u2014]\s*(.+)", re.IGNORECASE)
_FIELDS = tuple(
    (re.compile(pattern), name)
    for pattern, name in (
        (r"id|(pipedrive )?system id", "id"),
        (r"title|name", "title"),
        (r"first name", "first_name"),
        (r"last name", "last_name"),
        (r"e-?mails?( address(es)?)?( ?- ?[^-]+| ?\([^)]+\))?", "addresses"),
        (r"status", "status"),
        (r"won (time|on|date)", "won"),
        (r"lost (time|on|date)", "lost"),
        (r"archived|is archived|archive status", "archived"),
        (r"archive (time|date)|archived on", "archive_time"),
        (r"(contact )?person", "person"),
        (r"(contact )?person id", "person_id"),
        (r"organi[sz]ation", "organization"),
        (r"organi[sz]ation id", "organization_id"),
        (r"owner", "owner"),
        (r"((deal|lead|person|contact|organi[sz]ation|project) )?(created|added)( on| at| date| time)?", "added_at"),
        (r"(add|creation) (time|date)", "added_at"),
        (r"(last )?updated?( on| at| date| time)?", "updated_at"),
    )
)
_HAS = {
    ItemKind.DEAL: {"status", "won", "lost", "archived", "archive_time", "person", "person_id"},
    ItemKind.LEAD: {"archived", "archive_time", "person", "person_id"},
    ItemKind.PROJECT: {"status", "archived", "archive_time", "person", "person_id"},
    ItemKind.PERSON: {"first_name", "last_name", "addresses"},
    ItemKind.ORGANIZATION: set[str](),
}
_ALL_HAVE = {"id", "title", "owner", "added_at", "updated_at"}
_BELONG = {"organization", "organization_id"}
"""What all but organizations have."""

_STATUSES = {word: word for words in STATUSES.values() for word in words} | {"cancelled": "canceled"}
_YES = frozenset({"archived", "yes", "true", "1"})
_NO = frozenset({"not archived", "no", "false", "0", ""})
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]+")


class ZoneNeeded(ValueError):
    """A time has no zone, and none was said."""


@dataclass(frozen=True, slots=True)
class Named:
    """An item that a row names by its name alone."""

    field: str
    """The field that is to hold its id: person or organization."""
    name: str
    column: str
    """The header, for messages."""

    @property
    def kind(self) -> ItemKind:
        return ItemKind(self.field)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a row says of one item, but for the ids of items that it names by name."""

    change: Change
    wanted: tuple[Named, ...] = ()
    aside: bool = False
    """The row is about another item, which is linked to this one."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a row comes to."""

    row: int
    drafts: tuple[Draft, ...]
    problems: tuple[str, ...]
    """What is wrong or unclear. A record whose id, status or time cannot be read has no draft."""


@dataclass(frozen=True, slots=True)
class _Column:
    number: int
    header: str


@dataclass(frozen=True, slots=True)
class Export:
    """The columns of one file."""

    kind: ItemKind
    """What its rows are about."""
    columns: Mapping[ItemKind, Mapping[str, Sequence[_Column]]]
    ignored: tuple[str, ...]
    """Headers of columns that are not read."""

    def notes(self) -> list[str]:
        """What the reader of the report should know, but is nothing wrong."""
        said = []
        if self.ignored:
            said.append(f"columns that are not read: {', '.join(map(repr, self.ignored))}")
        mine = self.columns[self.kind]
        if self.kind in (ItemKind.DEAL, ItemKind.PROJECT) and not {"status", "won", "lost"} & mine.keys():
            said.append(f'no column "{self.kind.title()} - Status": those that are new here count as open')
        return said


def known_headers(headers: Sequence[str]) -> int:
    """How many of them name a record."""
    return sum(_HEADER.fullmatch(clean(each)) is not None for each in headers)


def columns_of(headers: Mapping[int, Cell]) -> Export:
    """What the columns mean. Raises TableError for a table that is no export of items, or has no column of ids."""
    found: dict[ItemKind, dict[str, list[_Column]]] = {}
    ignored, bare = [], []
    for number, cell in sorted(headers.items()):
        header = clean(str(cell))
        matched = _HEADER.fullmatch(header)
        if matched is None:
            bare.append((number, header))
        elif matched[1].lower() in _OTHERS:
            raise TableError(
                0, f"is an export of {matched[1].lower()} records ({header!r}): there is nothing to link mail to"
            )
        elif not _add(found, _KINDS[matched[1].lower()], matched[2], _Column(number, header)):
            ignored.append(header)
    kind = next((each for each in _MAIN if each in found), None)
    if kind is None:
        raise TableError(0, 'has no header of Pipedrive\'s, such as "Deal - Title"; headers are read in English')
    ignored += [header for number, header in bare if not _add(found, kind, header, _Column(number, header))]
    if "id" not in found[kind]:
        raise TableError(
            0,
            f'has no column "{kind.title()} - ID", and titles are no identity: show that column in '
            "Pipedrive's list, and export it again",
        )
    for other in found.keys() - {kind}:
        if "id" not in found[other]:  # their names may serve as links
            used = {"title"} if other in (ItemKind.PERSON, ItemKind.ORGANIZATION) else set[str]()
            ignored += [each.header for name, columns in found[other].items() if name not in used for each in columns]
    return Export(kind, found, tuple(ignored))


def _add(found: dict[ItemKind, dict[str, list[_Column]]], kind: ItemKind, said: str, column: _Column) -> bool:
    name = next((name for pattern, name in _FIELDS if pattern.fullmatch(said.lower())), None)
    allowed = _ALL_HAVE | _HAS[kind] | (_BELONG if kind is not ItemKind.ORGANIZATION else set())
    if name is None or name not in allowed:
        return False
    found.setdefault(kind, {}).setdefault(name, []).append(column)
    return True


def read_rows(table: Table, export: Export, zone: tzinfo | None) -> Iterator[Reading]:
    """Reads the rows below the headers. Raises TableError, and ZoneNeeded for a time without zone if `zone` is None.

    A time that `zone` has twice, when clocks are set back, is the earlier one; one that it leaves out is wrong.
    """
    for row in table.rows:
        yield _Reader(export, row, table.day_zero, zone).read()


@dataclass(slots=True)
class _Reader:
    """Reads one row."""

    export: Export
    row: Row
    day_zero: datetime | None
    zone: tzinfo | None
    problems: list[str] = field(default_factory=list)

    def read(self) -> Reading:
        drafts = []
        for kind, columns in self.export.columns.items():
            aside = kind is not self.export.kind
            if "id" not in columns or (aside and not self._text(columns["id"])):
                continue
            try:
                drafts.append(self._draft(kind, columns, aside=aside))
            except LineError as error:
                self.problems.append(str(error))
        return Reading(self.row.number, tuple(drafts), tuple(self.problems))

    def _draft(self, kind: ItemKind, columns: Mapping[str, Sequence[_Column]], *, aside: bool) -> Draft:
        fields: dict[str, Any] = {}
        id_ = self._id(columns["id"])
        if id_ is None:
            raise LineError(f"{_named(columns['id'])}: is empty, and a title is no identity")
        if "title" in columns:
            fields["title"] = self._text(columns["title"])
        elif "first_name" in columns or "last_name" in columns:
            names = (self._text(columns.get(each, ())) for each in ("first_name", "last_name"))
            fields["title"] = " ".join(filter(None, names))
        if "owner" in columns:
            fields["owner"] = self._text(columns["owner"]) or None
        for name in ("added_at", "updated_at"):
            if name in columns:
                fields[name] = self._time(columns[name])
        if "addresses" in columns:
            fields["addresses"] = self._addresses(columns["addresses"])
        fields |= self._status(kind, columns)
        if "archived" in columns or "archive_time" in columns:
            fields["archived"] = self._archived(columns)
        wanted = []
        for name in ("person", "organization"):
            found = self._link(kind, name, aside=aside)
            if isinstance(found, Named):
                wanted.append(found)
            elif found is not None:
                fields[name] = found or None
        return Draft(Change(ItemRef(kind, id_), fields), tuple(wanted), aside)

    def _link(self, kind: ItemKind, name: str, *, aside: bool) -> Named | str | None:
        """An id, "" for nothing, a name, or None where no column says anything."""
        mine = self.export.columns[kind]
        other = {} if aside or kind == name else self.export.columns.get(ItemKind(name), {})
        ids = [*mine.get(f"{name}_id", ()), *other.get("id", ())]
        names = [*mine.get(name, ()), *other.get("title", ())]
        if not ids and not names:
            return None
        for column in ids:
            if (id_ := self._id([column])) is not None:
                return id_
        for column in names:
            if text := self._text([column]):
                return Named(name, text, column.header)
        return ""

    def _status(self, kind: ItemKind, columns: Mapping[str, Sequence[_Column]]) -> dict[str, Any]:
        said = self._text(columns.get("status", ())).lower()
        if said == "deleted":
            return {"deleted": True}
        if said:
            status = _STATUSES.get(said)
            if status not in STATUSES[kind]:
                expected = ", ".join(STATUSES[kind])
                raise LineError(
                    f"{_named(columns['status'])}: expected one of {expected}, deleted, not {_shown(said)}"
                )
            return {"status": status, "deleted": False}
        ends = [name for name in ("won", "lost") if self._text(columns.get(name, ()))]
        if len(ends) == 2:
            raise LineError(
                f"{_named(columns['won'])} and {_named(columns['lost'])}: which holds? Export the status too"
            )
        if ends:
            return {"status": ends[0]}
        return {"status": "open"} if {"won", "lost"} <= columns.keys() else {}

    def _archived(self, columns: Mapping[str, Sequence[_Column]]) -> bool:
        if "archived" not in columns:
            return bool(self._text(columns["archive_time"]))
        said = self._text(columns["archived"]).lower()
        if said in _YES or said in _NO:
            return said in _YES
        raise LineError(f"{_named(columns['archived'])}: expected Archived or Not archived, not {_shown(said)}")

    def _addresses(self, columns: Sequence[_Column]) -> tuple[str, ...]:
        """What is no address is told and left out: it could not be an address of any mail."""
        found: dict[str, None] = {}
        for column in columns:
            for part in re.split(r"[\s,;<>]+", self._text([column])):
                if part:
                    try:
                        found |= dict.fromkeys(read_addresses("", [part]))
                    except LineError:
                        self.problems.append(
                            f"{_named([column])}: {_shown(part)} is no mail address, and is left out"
                        )
        return tuple(found)

    def _time(self, columns: Sequence[_Column]) -> datetime | None:
        cell = self.row.cells.get(columns[0].number, "")
        if cell == "":
            return None
        when = self._moment(cell, columns)
        if when.tzinfo is None:
            if self.zone is None:
                raise ZoneNeeded(f"{self.row.number}: {_named(columns)}: {when:%Y-%m-%d %H:%M:%S} has no time zone")
            local, when = when, when.replace(tzinfo=self.zone)
            if when.astimezone(UTC).astimezone(self.zone).replace(tzinfo=None) != local:
                raise LineError(
                    f"{_named(columns)}: there is no {local:%Y-%m-%d %H:%M} in {self.zone}: clocks were set "
                    "forward then. Is it the right --timezone?"
                )
        return when.astimezone(UTC)

    def _moment(self, cell: Cell, columns: Sequence[_Column]) -> datetime:
        try:
            when = _read_moment(cell, self.day_zero)
        except ValueError:
            expected = "expected a time as in 2026-01-05 09:00:00"
            raise LineError(f"{_named(columns)}: {expected}, not {_shown(str(cell))}") from None
        return when

    def _id(self, columns: Sequence[_Column]) -> str | None:
        text = self._text(columns)
        if text and not ITEM_ID.fullmatch(text):
            raise LineError(f"{_named(columns)}: expected 1 to 64 letters, digits, '_' or '-', not {_shown(text)}")
        return text or None

    def _text(self, columns: Sequence[_Column]) -> str:
        """The first of these cells that is not empty."""
        for column in columns:
            cell = self.row.cells.get(column.number, "")
            if isinstance(cell, float):
                return str(int(cell)) if cell.is_integer() and abs(cell) < 1e15 else repr(cell)
            text = clean(str(cell))
            if len(text) > MAX_TEXT:
                raise LineError(f"{_named([column])}: has {len(text):,} characters; {MAX_TEXT:,} are allowed")
            if text:
                return text
        return ""


def _read_moment(cell: Cell, day_zero: datetime | None) -> datetime:
    """Raises ValueError for what is no time; days and months in another order than this are not guessed at."""
    if isinstance(cell, float) and day_zero is not None:
        return moment(cell, day_zero)
    if not isinstance(cell, datetime):
        if not _TIME.fullmatch(text := str(cell).strip()):
            raise ValueError(text)
        cell = datetime.fromisoformat(text)
    if not 1900 < cell.year < 9999:  # so that no zone takes it out of range
        raise ValueError(cell)
    return cell


def clean(text: str) -> str:
    """A text on one line, without what a terminal or a database might take amiss."""
    text = _CONTROL.sub(" ", text).strip()
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def bearers(
    known: Iterable[tuple[ItemRef, str]], wanted: Collection[tuple[ItemKind, str]]
) -> dict[tuple[ItemKind, str], list[ItemRef]]:
    """Of items and their titles, those that bear one of these names, exactly."""
    found: dict[tuple[ItemKind, str], list[ItemRef]] = {}
    for ref, title in known:
        if (name := (ref.kind, clean(title))) in wanted:
            found.setdefault(name, []).append(ref)
    return found


def resolve(
    change: Change, wanted: Iterable[Named], bearers: Mapping[tuple[ItemKind, str], Sequence[ItemRef]]
) -> tuple[Change, list[str]]:
    """Puts the ids of those named into the change. A name that none or several bear stays out, and is told."""
    fields, problems = dict(change.fields), []
    for each in wanted:
        found = bearers.get((each.kind, each.name), ())
        if len(found) == 1:
            fields[each.field] = found[0].id
            continue
        who = f"{len(found)} have this name ({_some(found)})" if found else "none has this name"
        problems.append(
            f'"{each.column}": {each.kind} {_shown(each.name)} is unclear, {who}: {change.ref} goes in without it. '
            f'Export "{each.column} ID" too' + ("" if found else f", or import the {each.kind}s first")
        )
    return replace(change, fields=fields), problems


def beside(change: Change, known: Item | None) -> Change:
    """What a row about another item says of this one: it may not show all addresses, so those known stay."""
    if known is None or "addresses" not in change.fields:
        return change
    addresses = tuple(dict.fromkeys((*known.addresses, *change.fields["addresses"])))
    return replace(change, fields={**change.fields, "addresses": addresses})


def _some(refs: Sequence[ItemRef]) -> str:
    shown = ", ".join(map(str, sorted(refs)[:3]))
    return shown if len(refs) <= 3 else f"{shown}, …"


def _named(columns: Sequence[_Column]) -> str:
    return f'"{columns[0].header}"'


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
