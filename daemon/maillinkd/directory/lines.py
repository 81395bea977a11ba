"""Item lines (contract.md, JSON): one JSON object a line, each naming what is to be changed of one item."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from maillinkd.directory.item import ITEM_ID, Item, ItemKind, ItemRef
from maillinkd.mail.address import normalise

STATUSES = {
    ItemKind.DEAL: ("open", "won", "lost"),
    ItemKind.PROJECT: ("open", "completed", "canceled"),
}


class LineError(ValueError):
    """What is wrong with a line, in a sentence."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a line says of an item: absent fields stay, None clears."""

    ref: ItemRef
    fields: Mapping[str, Any]

    def apply(self, known: Item | None, now: datetime) -> Item:
        """The item as it is after the line; `known` is what was known of it, if anything."""
        item = known or Item(self.ref, imported_at=now)
        fields: dict[str, Any] = {
            name: _EMPTY.get(name) if value is None else value for name, value in self.fields.items()
        }
        return replace(item, **fields)


_EMPTY: dict[str, Any] = {"title": "", "archived": False, "deleted": False, "addresses": (), "participants": ()}


def read_line(line: str | bytes) -> Change:
    """Reads one line. Raises LineError with what is wrong and what was expected."""
    try:
        given = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LineError(f"is no JSON: {error}") from None
    if not isinstance(given, dict):
        raise LineError("is no JSON object")
    return read_change(given)


def read_change(given: Mapping[str, Any]) -> Change:
    """Reads one object that a line held. Raises LineError."""
    kind = _kind(given.get("kind"))
    id_ = given.get("id")
    if not isinstance(id_, str) or not ITEM_ID.fullmatch(id_):
        raise LineError(f"id: expected a text of 1 to 64 letters, digits, '_' or '-', not {_shown(id_)}")
    return Change(ItemRef(kind, id_), read_fields(kind, {name: given[name] for name in given if name not in _HEAD}))


def read_fields(kind: ItemKind, given: Mapping[str, Any]) -> dict[str, Any]:
    """Reads what is to be changed of an item of this kind; neither `kind` nor `id` can be. Raises LineError."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name in _HEAD:
            raise LineError(f"{name}: is no field that can be set (a {kind} has {', '.join(sorted(_FIELDS[kind]))})")
        reader = _READERS.get(name)
        if reader is None or name not in _FIELDS[kind]:
            raise LineError(f"{name}: a {kind} has no such field (it has {', '.join(sorted(_FIELDS[kind]))})")
        fields[name] = None if value is None else reader(name, value)
    status = fields.get("status")
    if status is not None and status not in STATUSES.get(kind, ()):
        raise LineError(f"status: expected one of {', '.join(STATUSES[kind])}, not {_shown(status)}")
    return fields


def as_line(item: Item) -> dict[str, Any]:
    """The item as `items list` shows it, and as `import items` takes it back."""
    line: dict[str, Any] = {"kind": str(item.ref.kind), "id": item.ref.id, "title": item.title}
    allowed = _FIELDS[item.ref.kind]
    if "status" in allowed:
        line["status"] = item.status or "open"
    if "addresses" in allowed:
        line["addresses"] = list(item.addresses)
    for name in ("person", "organization", "owner", "converted_from"):
        if name in allowed and getattr(item, name) is not None:
            line[name] = getattr(item, name)
    if item.participants:
        line["participants"] = list(item.participants)
    for name in ("added_at", "updated_at"):
        when: datetime | None = getattr(item, name)
        if when is not None:
            line[name] = rfc3339(when)
    if item.ref.kind is ItemKind.LEAD:
        line["archived"] = item.archived
    for name in ("archived", "deleted"):
        if getattr(item, name):
            line[name] = True
    return line


def rfc3339(when: datetime) -> str:
    """The time in UTC as the contract shows it, `2026-01-05T09:00:00Z`; a fraction only where there is one."""
    when = when.astimezone(UTC)
    timespec = "milliseconds" if when.microsecond else "seconds"
    return when.isoformat(timespec=timespec).replace("+00:00", "Z")


def read_time(text: str) -> datetime:
    """A time of RFC 3339, 5.6, in UTC; its T and Z may be small letters.

    A leap second (23:59:60) counts as the second after it, as POSIX counts time. Raises ValueError, whose text goes
    on after the time: "is no time …".
    """
    plain, leap = _LEAP_SECOND.subn("59", text.replace("t", "T").replace("z", "Z"), count=1)
    try:
        when = datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError(f"is no time: expected one as in {_EXAMPLE}") from None
    if when.tzinfo is None:
        raise ValueError(f"has no time zone; write it as in {_EXAMPLE}")
    try:
        return when.astimezone(UTC) + timedelta(seconds=leap)
    except OverflowError:
        raise ValueError(f"is out of range: expected a time as in {_EXAMPLE}") from None


_EXAMPLE = "2026-01-05T09:00:00Z"
_LEAP_SECOND = re.compile(r"(?<=[0-9]{2}:[0-9]{2}:)60")


def _kind(value: Any) -> ItemKind:
    if isinstance(value, str) and value.lower() in ItemKind.__members__.values():
        return ItemKind(value.lower())
    raise LineError(f"kind: expected one of {', '.join(ItemKind)}, not {_shown(value)}")


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 60 else text[:57] + "..."


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise LineError(f"{name}: expected a text, not {_shown(value)}")
    return value.replace("\x00", "").encode("utf-8", "replace").decode()


def _id(name: str, value: Any) -> str:
    if not isinstance(value, str) or not ITEM_ID.fullmatch(value):
        raise LineError(f"{name}: expected the id of an item as a text, not {_shown(value)}")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise LineError(f"{name}: expected true or false, not {_shown(value)}")
    return value


def _time(name: str, value: Any) -> datetime:
    if not isinstance(value, str):
        raise LineError(f"{name}: expected a time as in {_EXAMPLE}, not {_shown(value)}")
    try:
        return read_time(value)
    except ValueError as error:
        raise LineError(f"{name}: {_shown(value)} {error}") from None


def read_addresses(name: str, value: Any) -> tuple[str, ...]:
    """A list of mail addresses, normalised, without repeats. Raises LineError for what is none."""
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise LineError(f"{name}: expected a list of texts, not {_shown(value)}")
    found = tuple(dict.fromkeys(normalise(each) for each in value))
    for address in found:
        local, at, domain = address.rpartition("@")
        if not (local and at and domain) or any(each.isspace() for each in address):
            raise LineError(f"{name}: {_shown(address)} is no mail address")
    return found


def _ids(name: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise LineError(f"{name}: expected a list of ids, not {_shown(value)}")
    return tuple(dict.fromkeys(_id(name, each) for each in value))


_READERS: dict[str, Callable[[str, Any], Any]] = {
    "title": _text,
    "status": _text,
    "person": _id,
    "organization": _id,
    "owner": _text,
    "added_at": _time,
    "updated_at": _time,
    "archived": _flag,
    "deleted": _flag,
    "converted_from": _id,
    "addresses": read_addresses,
    "participants": _ids,
}

_HEAD = ("kind", "id", "v")
"""What says which item a line is about."""
_COMMON = {"title", "owner", "added_at", "updated_at", "archived", "deleted"}
_PEOPLE = {"person", "organization", "participants"}
_FIELDS: dict[ItemKind, set[str]] = {
    ItemKind.DEAL: _COMMON | _PEOPLE | {"status", "converted_from"},
    ItemKind.LEAD: _COMMON | _PEOPLE,
    ItemKind.PROJECT: _COMMON | _PEOPLE | {"status"},
    ItemKind.PERSON: _COMMON | {"addresses", "organization"},
    ItemKind.ORGANIZATION: _COMMON,
    ItemKind.ACTIVITY: _COMMON | _PEOPLE,
    ItemKind.PRODUCT: _COMMON,
    ItemKind.USER: _COMMON | {"addresses"},
}
