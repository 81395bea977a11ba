"""Items, as salesmen know them (linking.md, Words)."""

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

ITEM_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ItemKind(StrEnum):
    DEAL = "deal"
    LEAD = "lead"
    PROJECT = "project"
    PERSON = "person"
    ORGANIZATION = "organization"
    ACTIVITY = "activity"
    PRODUCT = "product"
    USER = "user"


SLOT_KINDS = frozenset({ItemKind.DEAL, ItemKind.LEAD, ItemKind.PROJECT})
"""The kinds of which a thread has at most one."""

LINKABLE_KINDS = SLOT_KINDS | {ItemKind.PERSON, ItemKind.ORGANIZATION}
"""Activities, products and users can be imported and shown, and nothing is linked to them."""


@dataclass(frozen=True, slots=True, order=True)
class ItemRef:
    """An item's name, `deal:61`. Ids are compared case-insensitively: `key` is for comparing, `str()` for showing."""

    kind: ItemKind
    id: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `KIND:ID`. Raises ValueError with a sentence that names what is wrong."""
        kind, colon, id_ = text.partition(":")
        if not colon or kind.lower() not in ItemKind.__members__.values():
            kinds = ", ".join(ItemKind)
            raise ValueError(f"{text!r} is no item: expected KIND:ID with KIND one of {kinds}")
        if not ITEM_ID.fullmatch(id_):
            raise ValueError(f"{text!r} is no item: an id has 1 to 64 letters, digits, '_' or '-'")
        return cls(ItemKind(kind.lower()), id_)

    @property
    def key(self) -> str:
        """The id as it is compared and stored for look-ups."""
        return self.id.lower()

    def is_same(self, other: Self) -> bool:
        """Whether both name one item, whatever the case of their ids."""
        return (self.kind, self.key) == (other.kind, other.key)

    def __str__(self) -> str:
        return f"{self.kind}:{self.id}"


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the directory. Fields that its kind does not have are None, empty or False."""

    ref: ItemRef
    title: str = ""
    status: str | None = None
    person: str | None = None
    """Id of the contact person, as given; perhaps not yet known."""
    organization: str | None = None
    owner: str | None = None
    added_at: datetime | None = None
    """UTC. None where unknown: then `imported_at` counts (L9)."""
    imported_at: datetime | None = None
    updated_at: datetime | None = None
    archived: bool = False
    deleted: bool = False
    converted_from: str | None = None
    """A deal's lead (L10)."""
    addresses: tuple[str, ...] = ()
    """A person's addresses, normalised."""
    participants: tuple[str, ...] = ()
    """Ids of persons who take part."""


def is_open(
    kind: ItemKind, status: str | None, *, deleted: bool = False, archived: bool = False, converted: bool = False
) -> bool:
    """linking.md, Words, "Open". `converted`: a deal that is not deleted was made from this lead (L10)."""
    if deleted or archived or converted:
        return False
    return kind is ItemKind.LEAD or (kind in SLOT_KINDS and (status or "open") == "open")
