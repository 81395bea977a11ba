"""The directory on its shelf: items, persons' addresses, who takes part."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, and_, delete, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from maillinkd.directory.item import SLOT_KINDS, Item, ItemKind, ItemRef, is_open
from maillinkd.linker.directory import Directory
from maillinkd.linker.policy import Policy
from maillinkd.linker.snapshot import Person, SlotItem, micros, moment
from maillinkd.mail.address import without_plus_tag
from maillinkd.store.database import chunks, upsert
from maillinkd.store.schema import item as items
from maillinkd.store.schema import item_address, item_participant

_SLOT_KINDS = tuple(str(kind) for kind in SLOT_KINDS)


def _moment(value: int | None) -> datetime | None:
    return None if value is None else moment(value)


def _micros(value: datetime | None) -> int | None:
    return None if value is None else micros(value)


async def read(connection: AsyncConnection, refs: Iterable[ItemRef]) -> dict[ItemRef, Item]:
    """The items of these names, under the names asked for; unknown ones are absent."""
    asked = {(str(ref.kind), ref.key): ref for ref in refs}
    found = {}
    by_kind = defaultdict[str, list[str]](list)
    for kind, key in asked:
        by_kind[kind].append(key)
    for kind, keys in by_kind.items():
        for some in chunks(keys):
            rows = (await connection.execute(select(items).where(items.c.kind == kind, items.c.key.in_(some)))).all()
            for each in await _with_lists(connection, rows):
                found[asked[str(each.ref.kind), each.ref.key]] = each
    return found


async def listing(
    connection: AsyncConnection, kind: ItemKind | None = None, search: str | None = None
) -> Sequence[Item]:
    """All items, by kind and id; of one kind, or with `search` in their title, id or address, if given."""
    query = select(items).order_by(items.c.kind, func.length(items.c.key), items.c.key)
    if kind is not None:
        query = query.where(items.c.kind == kind)
    if search:
        pattern = "%" + search.lower().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        with_address = select(item_address.c.key).where(item_address.c.address.like(pattern, escape="\\"))
        query = query.where(
            or_(
                func.lower(items.c.title).like(pattern, escape="\\"),
                items.c.key.like(pattern, escape="\\"),
                and_(items.c.kind == ItemKind.PERSON, items.c.key.in_(with_address)),
            )
        )
    return await _with_lists(connection, (await connection.execute(query)).all())


async def titles(connection: AsyncConnection, kind: ItemKind) -> list[tuple[ItemRef, str]]:
    """The titles of all items of a kind that are not deleted."""
    query = select(items.c.id, items.c.title).where(items.c.kind == kind, items.c.deleted.is_(False))
    return [(ItemRef(kind, row.id), row.title) for row in await connection.execute(query)]


async def _with_lists(connection: AsyncConnection, rows: Sequence[Row[Any]]) -> list[Item]:
    addresses = defaultdict[str, list[str]](list)
    persons = [row.key for row in rows if row.kind == ItemKind.PERSON]
    for some in chunks(persons):
        query = select(item_address).where(item_address.c.key.in_(some)).order_by(item_address.c.position)
        for row in await connection.execute(query):
            addresses[row.key].append(row.address)
    return [_item_of(row, tuple(addresses[row.key]) if row.kind == ItemKind.PERSON else ()) for row in rows]


def _item_of(row: Row[Any], addresses: tuple[str, ...]) -> Item:
    given = json.loads(row.given)
    return Item(
        ref=ItemRef(ItemKind(row.kind), row.id),
        title=row.title,
        status=row.status,
        person=given.get("person"),
        organization=given.get("organization"),
        owner=row.owner,
        added_at=_moment(row.added_at),
        imported_at=moment(row.imported_at),
        updated_at=_moment(row.updated_at),
        archived=row.archived,
        deleted=row.deleted,
        converted_from=given.get("converted_from"),
        addresses=addresses,
        participants=tuple(given.get("participants", ())),
    )


def _row_of(each: Item) -> dict[str, Any]:
    assert each.imported_at is not None, "the importer gives the time"
    given = {
        name: value
        for name in ("person", "organization", "converted_from", "participants")
        if (value := getattr(each, name))
    }
    return {
        "kind": str(each.ref.kind),
        "key": each.ref.key,
        "id": each.ref.id,
        "title": each.title,
        "status": each.status,
        "person_key": each.person and each.person.lower(),
        "organization_key": each.organization and each.organization.lower(),
        "owner": each.owner,
        "added_at": _micros(each.added_at),
        "imported_at": micros(each.imported_at),
        "updated_at": _micros(each.updated_at),
        "archived": each.archived,
        "deleted": each.deleted,
        "converted_from": each.converted_from and each.converted_from.lower(),
        "given": json.dumps(given),
    }


async def write(connection: AsyncConnection, changed: Sequence[Item], before: Collection[Item]) -> None:
    """Puts these items in the place of what was known of them, `before`; `imported_at` of a known one stays."""
    columns = [column.name for column in items.c if column.name not in ("kind", "key", "imported_at")]
    for some in chunks(changed, 1_000):
        await upsert(connection, items, [_row_of(each) for each in some], update=columns)
    for keys in chunks([each.ref.key for each in before if each.addresses]):
        await connection.execute(delete(item_address).where(item_address.c.key.in_(keys)))
    for kind in SLOT_KINDS:
        for keys in chunks([each.ref.key for each in before if each.ref.kind is kind and each.participants]):
            await connection.execute(
                delete(item_participant).where(item_participant.c.kind == kind, item_participant.c.key.in_(keys))
            )
    addresses = [
        {"address": address, "key": each.ref.key, "plain": without_plus_tag(address), "position": position}
        for each in changed
        if each.ref.kind is ItemKind.PERSON
        for position, address in enumerate(dict.fromkeys(each.addresses))
    ]
    participants = [
        {"person_key": person.lower(), "kind": str(each.ref.kind), "key": each.ref.key}
        for each in changed
        if each.ref.kind in SLOT_KINDS
        for person in each.participants
    ]
    for listed in chunks(addresses, 1_000):
        await upsert(connection, item_address, listed)
    for joined in chunks(participants, 1_000):
        await upsert(connection, item_participant, joined)


async def converted(connection: AsyncConnection, leads: Collection[str]) -> dict[str, ItemRef]:
    """L10: for each of these leads (keys) that was converted, its deal: the oldest one that is not deleted."""
    deals: dict[str, ItemRef] = {}
    for some in chunks(sorted(leads)):
        query = (
            select(items.c.converted_from, items.c.id)
            .where(items.c.kind == ItemKind.DEAL, items.c.converted_from.in_(some), items.c.deleted.is_(False))
            .order_by(items.c.imported_at.desc(), items.c.key.desc())
        )
        deals |= {row.converted_from: ItemRef(ItemKind.DEAL, row.id) for row in await connection.execute(query)}
    return deals


async def members(connection: AsyncConnection, organizations: Sequence[str]) -> set[ItemRef]:
    """The persons of these organizations (keys)."""
    found = set[ItemRef]()
    for some in chunks(organizations):
        query = select(items.c.id).where(items.c.kind == ItemKind.PERSON, items.c.organization_key.in_(some))
        found |= {ItemRef(ItemKind.PERSON, id_) for id_ in (await connection.execute(query)).scalars()}
    return found


async def directory(
    connection: AsyncConnection,
    policy: Policy,
    addresses: Collection[str],
    linked: Collection[ItemRef] = (),
    named: Collection[ItemRef] = (),
) -> Directory:
    """What is known of these addresses, of persons and organizations linked by hand, and of items in slots.

    With `policy.ignore_plus_tags` the addresses are taken to be without tags, and so are the persons'.
    """
    column = item_address.c.plain if policy.ignore_plus_tags else item_address.c.address
    pairs: list[tuple[str, str]] = []
    for some in chunks(sorted(addresses)):
        query = select(column, item_address.c.key).where(column.in_(some))
        pairs += [(row[0], row[1]) for row in await connection.execute(query)]
    keys = {key for _, key in pairs} | {ref.key for ref in linked if ref.kind is ItemKind.PERSON}
    persons = await _persons(connection, keys)
    by_hand = await living_organizations(
        connection, sorted({ref.key for ref in linked if ref.kind is ItemKind.ORGANIZATION})
    )
    organizations = by_hand | {
        each.organization.key: each.organization for each in persons.values() if each.organization
    }
    rows = await _slot_rows(connection, policy, persons, organizations, named)
    known = defaultdict[str, set[ItemRef]](set)
    for address, key in pairs:
        if key in persons:
            known[address].add(persons[key].ref)
    found = await _slot_items(connection, policy, rows, persons, organizations)
    return Directory(
        known={address: tuple(sorted(refs)) for address, refs in known.items()},
        persons={person.ref: person for person in persons.values()},
        items={each.ref: each for each in found},
        by_person=_by_person(found),
        organizations=frozenset(by_hand.values()),
        by_organization=_by_organization(found),
    )


async def _persons(connection: AsyncConnection, keys: Collection[str]) -> dict[str, Person]:
    """Persons by key, with their organizations; deleted ones are absent, deleted organizations too."""
    found: dict[str, tuple[ItemRef, str | None]] = {}
    for some in chunks(sorted(keys)):
        query = select(items.c.key, items.c.id, items.c.organization_key).where(
            items.c.kind == ItemKind.PERSON, items.c.key.in_(some), items.c.deleted.is_(False)
        )
        for row in await connection.execute(query):
            found[row.key] = (ItemRef(ItemKind.PERSON, row.id), row.organization_key)
    wanted = sorted({organization for _, organization in found.values() if organization})
    known = await living_organizations(connection, wanted)
    return {key: Person(ref, known.get(organization or "")) for key, (ref, organization) in found.items()}


async def living_organizations(connection: AsyncConnection, keys: Sequence[str]) -> dict[str, ItemRef]:
    """Organizations by key; deleted and unknown ones are absent."""
    known: dict[str, ItemRef] = {}
    for some in chunks(keys):
        query = select(items.c.key, items.c.id).where(
            items.c.kind == ItemKind.ORGANIZATION, items.c.key.in_(some), items.c.deleted.is_(False)
        )
        known |= {row.key: ItemRef(ItemKind.ORGANIZATION, row.id) for row in await connection.execute(query)}
    return known


async def _slot_rows(
    connection: AsyncConnection,
    policy: Policy,
    persons: Collection[str],
    organizations: Collection[str],
    named: Collection[ItemRef],
) -> list[Row[Any]]:
    rows: dict[tuple[str, str], Row[Any]] = {}

    async def collect(condition: Any) -> None:
        query = select(items).where(items.c.kind.in_(_SLOT_KINDS), condition)
        rows.update({(row.kind, row.key): row for row in await connection.execute(query)})

    for some in chunks(sorted(persons)):
        await collect(items.c.person_key.in_(some))
        if policy.include_participants:
            for kind in _SLOT_KINDS:
                taking_part = select(item_participant.c.key).where(
                    item_participant.c.person_key.in_(some), item_participant.c.kind == kind
                )
                await collect(and_(items.c.kind == kind, items.c.key.in_(taking_part)))
    if policy.include_organization_items:
        for some in chunks(sorted(organizations)):
            await collect(and_(items.c.organization_key.in_(some), items.c.person_key.is_(None)))
    for kind in _SLOT_KINDS:
        keys = sorted(ref.key for ref in named if ref.kind == kind and (kind, ref.key) not in rows)
        for some in chunks(keys):
            await collect(and_(items.c.kind == kind, items.c.key.in_(some)))
    return list(rows.values())


async def _slot_items(
    connection: AsyncConnection,
    policy: Policy,
    rows: Sequence[Row[Any]],
    persons: Mapping[str, Person],
    organizations: Mapping[str, ItemRef],
) -> list[SlotItem]:
    """`persons`, `organizations`: by key."""
    deals = await converted(connection, [row.key for row in rows if row.kind == ItemKind.LEAD])
    found = []
    for row in rows:
        ref = ItemRef(ItemKind(row.kind), row.id)
        person = persons[row.person_key].ref if row.person_key in persons else None
        organization = organizations.get(row.organization_key)
        participants = frozenset[ItemRef]()
        is_unknown = (row.person_key and not person) or (row.organization_key and not organization)
        if is_unknown or policy.include_participants:
            given = json.loads(row.given)
            person = person or _named(ItemKind.PERSON, given.get("person"))
            organization = organization or _named(ItemKind.ORGANIZATION, given.get("organization"))
            if policy.include_participants:
                keys = (id_.lower() for id_ in given.get("participants", ()))
                participants = frozenset(persons[key].ref for key in keys if key in persons)
        is_converted = ref.kind is ItemKind.LEAD and row.key in deals
        found.append(
            SlotItem(
                ref=ref,
                open=is_open(
                    ref.kind, row.status, deleted=row.deleted, archived=row.archived, converted=is_converted
                ),
                added_at=moment(row.imported_at if row.added_at is None else row.added_at),
                person=person,
                organization=organization,
                participants=participants,
            )
        )
    return found


def _named(kind: ItemKind, id_: str | None) -> ItemRef | None:
    return ItemRef(kind, id_) if id_ else None


def _by_person(found: Iterable[SlotItem]) -> dict[ItemRef, tuple[ItemRef, ...]]:
    listed = defaultdict[ItemRef, list[ItemRef]](list)
    for each in found:
        for person in each.participants | ({each.person} if each.person else set()):
            listed[person].append(each.ref)
    return {person: tuple(sorted(refs)) for person, refs in listed.items()}


def _by_organization(found: Iterable[SlotItem]) -> dict[ItemRef, tuple[ItemRef, ...]]:
    listed = defaultdict[ItemRef, list[ItemRef]](list)
    for each in found:
        if each.person is None and each.organization is not None:
            listed[each.organization].append(each.ref)
    return {organization: tuple(sorted(refs)) for organization, refs in listed.items()}
