"""The part of the directory that a batch touches, read once; each thread's snapshot takes its share."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from maillinkd.directory.item import ItemRef
from maillinkd.linker.snapshot import Person, SlotItem


@dataclass(frozen=True, slots=True)
class Share:
    """What one thread's snapshot needs of the directory (the fields of Snapshot with the same names)."""

    known: Mapping[str, tuple[ItemRef, ...]]
    persons: Mapping[ItemRef, Person]
    items: Mapping[ItemRef, SlotItem]


@dataclass(frozen=True, slots=True)
class Directory:
    """Persons by address, and the deals, leads and projects that may count for them."""

    known: Mapping[str, tuple[ItemRef, ...]] = field(default_factory=dict)
    persons: Mapping[ItemRef, Person] = field(default_factory=dict)
    items: Mapping[ItemRef, SlotItem] = field(default_factory=dict)
    by_person: Mapping[ItemRef, tuple[ItemRef, ...]] = field(default_factory=dict)
    """Items that a person has or takes part in."""
    organizations: frozenset[ItemRef] = frozenset()
    """Those that a hand linked and that are not deleted."""
    by_organization: Mapping[ItemRef, tuple[ItemRef, ...]] = field(default_factory=dict)
    """Items of an organization that have no contact person."""

    def share(self, addresses: Collection[str], linked: Collection[ItemRef], named: Collection[ItemRef]) -> Share:
        """What the directory knows of these addresses, persons and organizations linked by hand, and items."""
        if not self.known and not linked and not named:
            return _NOTHING
        known = {address: self.known[address] for address in addresses if address in self.known}
        refs = {ref for found in known.values() for ref in found} | set(linked)
        persons = {ref: self.persons[ref] for ref in sorted(refs) if ref in self.persons}
        organizations = {person.organization for person in persons.values()} | set(linked)
        items: dict[ItemRef, SlotItem] = {}
        for person in persons:
            items |= {ref: self.items[ref] for ref in self.by_person.get(person, ())}
        for organization in organizations:
            if organization is not None:
                items |= {ref: self.items[ref] for ref in self.by_organization.get(organization, ())}
        items |= {ref: self.items[ref] for ref in named}
        return Share(known, persons, items)


_NOTHING = Share({}, {}, {})
