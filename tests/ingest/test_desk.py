"""Threads on the desk: what a merge unites, what a decision records, and that it follows from its facts."""

from typing import Any

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    DORA,
    OTHER_DEAL,
    PERSON,
    STRANGER,
    Scene,
    bcc,
    hours,
    letter,
    office_with,
    people,
    received,
    slot,
)
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.linker.rules import decide
from maillinkd.linker.snapshot import Snapshot
from maillinkd.logs import DECISION_FIELDS, decision_line
from maillinkd.store import journal

DORA_OF_THE_SHOP = (
    {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]},
    {"kind": "deal", "id": "70", "title": "Fence", "person": "4", "added_at": "2026-01-07T09:00:00Z"},
)


async def test_in_a_merge_the_thread_that_started_first_keeps_its_automatic_link(either: Scene) -> None:
    """L21, whichever was stored first."""
    await either.know(*CLIENT, *DORA_OF_THE_SHOP)
    await either.arrive(letter("b@x", sender=DORA, date=hours(1)), letter("a@x"))

    await either.arrive(letter("c@x", refers=["b@x", "a@x"], date=hours(2)), first_uid=3)

    thread = await either.thread()
    assert (slot(thread), people(thread), thread.started_at) == (
        "deal:61", ["person:3", "person:4", "organization:7"], hours(0),
    )  # fmt: skip
    line = either.told[-1]
    assert (line["trigger"], line["flags"], line["lost"]) == ("merge", ["slot_lost_in_merge"], ["deal:70"])


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3)])
async def test_by_hand_beats_automatic_whichever_is_older(scene: Scene, order: tuple[int, ...]) -> None:
    await scene.know(*CLIENT, *DORA_OF_THE_SHOP, OTHER_DEAL | {"person": None})
    for n in order:
        await scene.arrive(letter(f"m{n}@x", sender=[CARLA, DORA, STRANGER][n - 1], date=hours(n)), first_uid=n)
    await changes.link(scene.house, "anna", [(await scene.thread_of("m3@x")).id], ItemRef.parse("deal:62"))

    await scene.arrive(letter("c@x", refers=["m1@x", "m2@x", "m3@x"], date=hours(5)), first_uid=9)

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.message_count) == ("deal:62", "manual_link_kept", 4)
    assert scene.told[-1]["lost"] == ["deal:61", "deal:70"]


async def test_equal_links_are_not_lost(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))

    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)

    assert ((await scene.thread()).flags, scene.told[-1].get("lost")) == ((), None)


async def test_a_merge_within_smart_bcc(scene: Scene) -> None:
    """Smart Bcc beats automatic."""
    await scene.know(*CLIENT, OTHER_DEAL | {"person": None})
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA)))
    await scene.deliver(received(letter("b@x", sender=ANNA, to=CARLA, date=hours(1)), bcc("deal62")))

    await scene.deliver(received(letter("c@x", sender=ANNA, to=CARLA, refers=["a@x", "b@x"], date=hours(2))))

    thread = await scene.thread()
    assert (slot(thread), thread.message_count, thread.flags) == ("deal:62", 3, ("slot_lost_in_merge",))


async def test_three_merges_in_one_batch_leave_one_line_and_working_numbers(either: Scene) -> None:
    await either.arrive(*(letter(f"m{n}@x", date=hours(n)) for n in range(4)))
    either.told.clear()

    await either.arrive(
        letter("j1@x", refers=["m0@x", "m1@x"], date=hours(5)),
        letter("j2@x", refers=["m2@x", "m3@x"], date=hours(6)),
        letter("j3@x", refers=["j2@x", "j1@x"], date=hours(7)),
        first_uid=9,
    )

    thread = await either.thread()
    assert (thread.id, thread.message_count, [line["thread"] for line in either.told]) == (1, 7, [1])
    async with either.database.reading() as connection:
        from maillinkd.store import links

        assert {await links.label_of(connection, number) for number in (1, 2, 3, 4)} == {thread.label}


async def test_a_message_that_joins_two_threads_of_two_is_a_bridge(scene: Scene) -> None:
    await scene.arrive(letter("a@x"), letter("a2@x", refers=["a@x"], date=hours(1)))
    await scene.arrive(letter("b@x"), letter("b2@x", refers=["b@x"], date=hours(1)), first_uid=3)

    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=5)

    assert [message.message_id for message in await scene.messages() if "bridge" in message.flags] == ["<c@x>"]


async def test_messages_that_come_after_the_deal_is_closed_are_kept_from_it(scene: Scene) -> None:
    """`closed_item_threads = "exclude_later"`."""
    scene.house.office = office_with(policy={"closed_item_threads": "exclude_later"})
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    await scene.know({"kind": "deal", "id": "61", "status": "won"})

    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    assert [message.flags for message in await scene.messages()] == [(), ("excluded_from_item",)]


async def test_an_older_message_withdraws_a_link_to_an_item_that_is_newer(scene: Scene) -> None:
    """L27."""
    await scene.know(PERSON, {"kind": "deal", "id": "61", "person": "3", "added_at": hours(1).isoformat()})
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(2)))
    assert slot(await scene.thread()) == "deal:61"

    await scene.arrive(letter("a@x"), first_uid=2)

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == (None, "item_newer_than_thread")


async def test_a_line_has_the_fields_of_the_contract(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    (line,) = scene.told
    assert set(line) == set(DECISION_FIELDS)
    assert (line["owner"], line["channel"], line["mailbox"], line["message_id"]) == ("anna", "imap", "anna", "<a@x>")
    assert (line["actor"], line["outcome"], line["slot_before"]) == ("auto", "linked", None)
    assert (line["policy"].partition("@")[0], line["rule_version"]) == ("recommended", 1)
    assert "New roof" not in decision_line(line)


async def test_every_decision_follows_from_its_facts(scene: Scene) -> None:
    """L24: with those that are stored the rules give the same answer."""
    await scene.know(*CLIENT, *DORA_OF_THE_SHOP)
    await scene.arrive(letter("a@x"), letter("b@x", sender=DORA, date=hours(1)))
    await scene.arrive(letter("c@x", sender=STRANGER, refers=["a@x"], date=hours(2)), first_uid=3)
    await scene.arrive(letter("d@x", refers=["a@x", "b@x"], date=hours(3)), first_uid=4)
    await changes.unlink(scene.house, "anna", [1], ItemRef.parse("deal:61"))
    await scene.deliver(received(letter("e@x", sender=ANNA, to=CARLA), bcc("deal61"), bcc("deal70")))
    await scene.arrive(letter("f\udce9@x", refers=["q\udce9@x"]), first_uid=5)

    async with scene.database.reading() as connection:
        recorded = await journal.of_threads(connection, range(99))

    assert len(recorded) == len(scene.told) == 8
    for each in recorded:
        assert each.facts is not None
        found = decide(Snapshot.of_facts(each.facts))
        expected = {name: each.line[name] for name in ("slot", "reason", "persons", "organizations", "candidates")}
        assert _shown(found) == expected


def _shown(decision: Any) -> dict[str, object]:
    return {
        "slot": decision.slot.item and str(decision.slot.item),
        "reason": str(decision.reason),
        "persons": sorted(map(str, decision.links.persons)),
        "organizations": sorted(map(str, decision.links.organizations)),
        "candidates": [str(ref) for ref in decision.candidates],
    }


async def test_plus_tags_do_not_part_a_person_from_his_mail_where_the_policy_says_so(scene: Scene) -> None:
    scene.house.office = office_with(policy={"ignore_plus_tags": True})
    await scene.know(*CLIENT)

    await scene.arrive(letter("a@x", sender="carla+crm@client.example"))

    assert people(await scene.thread()) == ["person:3", "organization:7"]


async def test_what_a_merge_has_lost_is_never_what_it_keeps(scene: Scene) -> None:
    """L21: two merges in one batch. The first drops the deal that a hand's link brings back with the second."""
    await scene.know(*CLIENT, *DORA_OF_THE_SHOP)
    first, second = letter("a@x"), letter("b@x", sender=DORA, date=hours(1))
    await scene.arrive(first, second, letter("c@x", sender=STRANGER, date=hours(2)))
    await changes.link(scene.house, "anna", [(await scene.thread_of("c@x")).id], ItemRef.parse("deal:70"))

    await scene.arrive(
        letter("d@x", refers=["a@x", "b@x"], date=hours(3)),
        letter("e@x", refers=["b@x", "c@x"], date=hours(4)),
        first_uid=4,
    )

    assert (slot(await scene.thread()), scene.told[-1]["lost"]) == ("deal:70", ["deal:61"])


async def test_what_merges_of_an_import_have_lost_is_never_what_they_keep(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same, when each merge has a transaction of its own and the thread is decided at the end."""
    monkeypatch.setattr("maillinkd.ingest.house.CHUNK", 1)
    monkeypatch.setattr("maillinkd.ingest.house.SHARED_CHUNK", 1)
    await scene.know(*CLIENT, *DORA_OF_THE_SHOP)
    first, second = letter("a@x"), letter("b@x", sender=DORA, date=hours(1))
    await scene.arrive(first, second, letter("c@x", sender=STRANGER, date=hours(2)))
    await changes.link(scene.house, "anna", [(await scene.thread_of("c@x")).id], ItemRef.parse("deal:70"))

    await scene.bring(
        [
            letter("d@x", refers=["a@x", "b@x"], date=hours(3)),
            letter("e@x", refers=["b@x", "c@x"], date=hours(4)),
        ]
    )

    assert (slot(await scene.thread()), scene.told[-1]["lost"]) == ("deal:70", ["deal:61"])


SHOP = {"kind": "organization", "id": "9", "title": "Shop"}


async def test_an_organization_that_a_hand_linked_and_that_is_deleted_is_not_told(scene: Scene) -> None:
    await scene.know(*CLIENT, SHOP)
    await scene.arrive(letter("a@x"))
    await changes.link(scene.house, "anna", [1], ItemRef.parse("organization:9"))
    assert scene.told[-1]["organizations"] == ["organization:7", "organization:9"]
    await scene.know(SHOP | {"deleted": True})

    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    assert scene.told[-1]["organizations"] == ["organization:7"]
    assert people(await scene.thread()) == ["person:3", "organization:7"]


async def test_items_of_an_organization_that_is_deleted_do_not_count(scene: Scene) -> None:
    """L7, `include_organization_items`: also where a hand has linked it."""
    scene.house.office = office_with(policy={"include_organization_items": True})
    fence = {"kind": "deal", "id": "90", "organization": "9", "added_at": "2026-01-05T09:00:00Z"}
    await scene.know(PERSON, SHOP, fence | {"status": "won"})
    await scene.arrive(letter("a@x"))
    await changes.link(scene.house, "anna", [1], ItemRef.parse("organization:9"))
    await scene.know(SHOP | {"deleted": True}, fence | {"status": "open"})

    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    thread = await scene.thread()
    assert (slot(thread), thread.reason, scene.told[-1]["organizations"]) == (None, "no_item", [])


@pytest.mark.parametrize("named", ["acme", "Acme"])
async def test_ids_of_organizations_are_compared_without_case(scene: Scene, named: str) -> None:
    """Its items count, however they and a hand write its id."""
    scene.house.office = office_with(policy={"include_organization_items": True})
    fence = {"kind": "deal", "id": "90", "organization": named, "added_at": "2026-01-05T09:00:00Z"}
    await scene.know(PERSON, SHOP | {"id": "ACME"}, fence)
    await scene.arrive(letter("a@x"))

    await changes.link(scene.house, "anna", [1], ItemRef.parse("organization:aCmE"))

    thread = await scene.thread()
    assert (slot(thread), people(thread)) == ("deal:90", ["person:3", "organization:ACME"])


async def test_a_message_from_before_the_deal_was_closed_is_not_kept_from_it_when_delivered_again(
    scene: Scene,
) -> None:
    """`closed_item_threads = "exclude_later"`: it has come no later."""
    scene.house.office = office_with(policy={"closed_item_threads": "exclude_later"})
    await scene.know(*CLIENT, OTHER_DEAL)
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await scene.deliver(received(raw, bcc("deal61")))
    await scene.know({"kind": "deal", "id": "61", "status": "won"})

    await scene.deliver(received(raw, bcc("deal62")))

    assert (await scene.thread()).reason == "kept_existing_link_item_closed"
    assert [message.flags for message in await scene.messages()] == [("smart_bcc_conflict",)]


async def test_imported_messages_that_come_after_the_deal_is_closed_are_kept_from_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that are stored, and decided later than they were placed."""
    monkeypatch.setattr("maillinkd.ingest.house.CHUNK", 1)
    monkeypatch.setattr("maillinkd.ingest.house.SHARED_CHUNK", 1)
    scene.house.office = office_with(policy={"closed_item_threads": "exclude_later"})
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    await scene.know({"kind": "deal", "id": "61", "status": "won"})

    await scene.bring([letter(f"{name}@x", refers=["a@x"], date=hours(1)) for name in "bc"])

    excluded = ("excluded_from_item",)
    assert [message.flags for message in await scene.messages()] == [(), excluded, excluded]
