"""Persons and organizations follow the directory, a lead hands its threads to its deal, and nothing else moves
(linking.md L6, L10, L11)."""

import asyncio
from itertools import permutations
from typing import Any

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    ORGANIZATION,
    OTHER_DEAL,
    PERSON,
    STRANGER,
    Scene,
    hours,
    letter,
    office_with,
    people,
    slot,
)
from ingest.trouble import DeathError
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes, filing, house, imports
from maillinkd.store import schema


async def test_a_person_who_is_added_later_is_linked_and_the_slot_waits(either: Scene) -> None:
    """L6; L28: nothing else decides a thread without mail."""
    await either.arrive(letter("a@x"))
    decided = (await either.thread()).decision

    await either.know(*CLIENT)

    thread = await either.thread()
    assert (people(thread), slot(thread), thread.reason, thread.decision) == (
        ["person:3", "organization:7"], None, "no_known_person", decided,
    )  # fmt: skip
    assert [(line["trigger"], line["outcome"]) for line in either.told] == [
        ("message", "unlinked"),
        ("directory", "unchanged"),
    ]


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
async def test_persons_do_not_depend_on_whether_mail_or_directory_came_first(
    scene: Scene, order: tuple[int, ...]
) -> None:
    steps: list[Any] = [
        lambda: scene.arrive(letter("a@x")),
        lambda: scene.know(PERSON),
        lambda: scene.know(ORGANIZATION),
    ]

    for step in order:
        await steps[step]()

    assert people(await scene.thread()) == ["person:3", "organization:7"]


async def test_an_address_that_is_added_later_finds_its_threads(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", sender="carla@home.example"))

    await scene.know({"kind": "person", "id": "3", "addresses": [CARLA, "Carla@Home.example"]})

    assert people(await scene.thread()) == ["person:3", "organization:7"]


async def test_an_address_that_is_taken_away_takes_the_link_with_it(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    await scene.know({"kind": "person", "id": "3", "addresses": []})

    thread = await scene.thread()
    assert (people(thread), slot(thread)) == ([], "deal:61")


async def test_who_is_deleted_goes_and_comes_back(either: Scene) -> None:
    await either.know(*CLIENT)
    await either.arrive(letter("a@x"))

    await either.know({"kind": "person", "id": "3", "deleted": True})
    assert people(await either.thread()) == []

    await either.know({"kind": "person", "id": "3", "deleted": False})
    assert people(await either.thread()) == ["person:3", "organization:7"]


async def test_an_organization_that_is_deleted_goes_and_comes_back(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    await scene.know({"kind": "organization", "id": "7", "deleted": True})
    assert people(await scene.thread()) == ["person:3"]

    await scene.know({"kind": "organization", "id": "7", "deleted": False})
    assert people(await scene.thread()) == ["person:3", "organization:7"]


async def test_a_hands_link_to_who_was_deleted_is_there_again_with_him(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", sender=STRANGER))
    await changes.link(scene.house, "anna", [1], ItemRef.parse("person:3"))

    await scene.know({"kind": "person", "id": "3", "deleted": True})
    assert people(await scene.thread()) == []
    await scene.arrive(letter("b@x", sender=STRANGER, refers=["a@x"], date=hours(1)), first_uid=2)

    await scene.know({"kind": "person", "id": "3", "deleted": False})
    assert people(await scene.thread()) == ["person:3", "organization:7"]


async def test_a_person_who_changes_the_organization_takes_it_along(scene: Scene) -> None:
    await scene.know(*CLIENT, {"kind": "organization", "id": "8", "title": "Shop"})
    await scene.arrive(letter("a@x"))

    await scene.know({"kind": "person", "id": "3", "organization": "8"})

    assert people(await scene.thread()) == ["person:3", "organization:8"]


async def test_two_persons_with_one_address_are_both_linked(scene: Scene) -> None:
    """L5."""
    await scene.know(PERSON)
    await scene.arrive(letter("a@x"))

    await scene.know({"kind": "person", "id": "9", "title": "Carla again", "addresses": [CARLA]})

    thread = await scene.thread()
    assert (people(thread), thread.flags) == (["person:3", "person:9"], ("ambiguous_person",))


async def test_a_stranger_who_becomes_known_is_none_any_more(scene: Scene) -> None:
    """L22: in the present directory."""
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"), letter("b@x", sender=DORA, refers=["a@x"], date=hours(1)))
    assert (await scene.thread()).flags == ("stranger_joined",)

    await scene.know({"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]})

    thread = await scene.thread()
    assert ([str(ref) for ref in thread.persons], thread.flags) == (["person:3", "person:4"], ())


async def test_row_6_holds_for_the_directory_too(scene: Scene) -> None:
    scene.house.office = office_with(users={"anna": {"auto_link": False}})
    await scene.arrive(letter("a@x"))

    await scene.know(*CLIENT)

    assert people(await scene.thread()) == []


@pytest.mark.parametrize(
    "change",
    [{"status": "won"}, {"title": "Another"}, {"deleted": True}, {"person": "4"}, {"owner": "ben"}],
    ids=lambda change: next(iter(change)),
)
async def test_a_change_of_a_deal_decides_nothing(scene: Scene, change: dict[str, Any]) -> None:
    """L11, L28: the thread keeps its deal."""
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    await scene.know({"kind": "deal", "id": "61"} | change)

    assert (slot(await scene.thread()), len(scene.told)) == ("deal:61", 1)


async def test_items_that_come_again_unchanged_decide_nothing(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    await scene.know(*CLIENT)
    told = len(scene.told)

    await scene.know(*CLIENT)

    assert len(scene.told) == told


CONVERTED = OTHER_DEAL | {"converted_from": "ABC-1"}


async def test_a_lead_that_is_converted_hands_its_threads_over(either: Scene) -> None:
    """L10; ids are compared case-insensitively."""
    await either.know(PERSON, LEAD)
    await either.arrive(letter("a@x"))
    assert slot(await either.thread()) == "lead:abc-1"

    await either.know(CONVERTED)

    thread = await either.thread()
    assert (slot(thread), thread.reason) == ("deal:62", "converted_lead_followed")
    assert (either.told[-1]["trigger"], either.told[-1]["slot_before"]) == ("directory", "lead:abc-1")


@pytest.mark.parametrize("first", [LEAD, CONVERTED], ids=["lead first", "deal first"])
async def test_mail_that_comes_after_both_goes_to_the_deal(scene: Scene, first: dict[str, Any]) -> None:
    second = CONVERTED if first is LEAD else LEAD
    await scene.know(PERSON, first)
    await scene.know(second)

    await scene.arrive(letter("a@x"))

    assert slot(await scene.thread()) == "deal:62"


async def test_a_lead_that_a_hand_chose_is_handed_over_too(scene: Scene) -> None:
    await scene.know(LEAD)
    await scene.arrive(letter("a@x", sender=STRANGER))
    await changes.link(scene.house, "anna", [1], ItemRef.parse("lead:abc-1"))

    await scene.know(CONVERTED)
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == ("deal:62", "manual_link_kept")


async def test_the_leads_age_stays_the_one_that_counts(scene: Scene) -> None:
    """L27 after L10: the deal is younger than the thread, and keeps it."""
    await scene.know(PERSON, LEAD)
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)))
    await scene.know(CONVERTED | {"added_at": "2026-03-05T09:00:00Z"})

    await scene.arrive(letter("a@x"), first_uid=2)

    assert slot(await scene.thread()) == "deal:62"


async def test_a_conversion_to_a_deleted_deal_is_none(scene: Scene) -> None:
    await scene.know(PERSON, LEAD)
    await scene.arrive(letter("a@x"))

    await scene.know(CONVERTED | {"deleted": True})
    assert slot(await scene.thread()) == "lead:abc-1"

    await scene.know({"kind": "deal", "id": "62", "deleted": False})
    assert slot(await scene.thread()) == "deal:62"


async def test_each_scope_follows(scene: Scene) -> None:
    from ingest.scene import received

    await scene.arrive(letter("a@x"))
    await scene.arrive(letter("a@x"), mailbox="ben")
    await scene.deliver(received(letter("b@x", sender=ANNA, to=CARLA)))

    await scene.know(*CLIENT, DEAL)

    assert [people(thread) for thread in await scene.threads()] == [["person:3", "organization:7"]] * 3
    assert [line["trigger"] for line in scene.told[3:]] == ["directory"] * 3


PLUS = {"kind": "person", "id": "3", "title": "Carla", "addresses": ["carla+crm@client.example"]}


@pytest.mark.parametrize("sender", [CARLA, "carla+other@client.example"])
@pytest.mark.parametrize("known", [(), (PERSON | {"addresses": ["carla@home.example"]},)], ids=["new", "known"])
async def test_a_tagged_address_that_is_added_later_finds_its_threads_where_tags_are_ignored(
    scene: Scene, sender: str, known: tuple[dict[str, Any], ...]
) -> None:
    """L6: the result never depends on whether the mail or the person came first."""
    scene.house.office = office_with(policy={"ignore_plus_tags": True})
    await scene.know(*known)
    await scene.arrive(letter("a@x", sender=sender))
    assert people(await scene.thread()) == []

    await scene.know(PLUS)

    assert people(await scene.thread()) == ["person:3"]


# -- an import has placed mail, and decides it when it ends (L26)


async def _place(scene: Scene, monkeypatch: pytest.MonkeyPatch, *mails: bytes) -> None:
    """Imports these mails, two at least; it is cut off when all are placed and no thread is decided."""

    async def dies(*_: object, **__: object) -> None:
        raise DeathError

    with monkeypatch.context() as patched:
        patched.setattr(house, "CHUNK", 1)
        patched.setattr(house, "SHARED_CHUNK", 1)
        patched.setattr(filing, "decide_undecided", dies)
        with pytest.raises(DeathError):
            await scene.bring(mails)


BETWEEN = {
    "a person comes": (
        {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]},
        ["person:3", "person:4", "organization:7"],
    ),
    "a person leaves": ({"kind": "person", "id": "3", "organization": None}, ["person:3"]),
}


@pytest.mark.parametrize("change", BETWEEN)
async def test_a_thread_that_an_import_has_placed_is_decided_at_its_end_whatever_has_changed(
    either: Scene, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """L6 decides no thread that was not decided yet."""
    item, linked = BETWEEN[change]
    await either.know(*CLIENT)
    await _place(either, monkeypatch, letter("a@x", cc=[DORA]), letter("b@x", refers=["a@x"], date=hours(1)))

    await either.know(item)
    assert ((await either.thread()).reason, either.told) == (None, [])
    await imports.finish_imports(either.house)

    thread = await either.thread()
    assert (slot(thread), thread.reason, people(thread)) == ("deal:61", "kept_existing_link", linked)
    assert await either.count("message", schema.message.c.undecided) == 0


async def test_persons_that_come_while_an_import_is_on_decide_none_of_its_threads(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(house, "CHUNK", 1)
    monkeypatch.setattr(house, "SHARED_CHUNK", 1)
    await scene.know(*CLIENT)
    dora = {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]}
    coming: list[asyncio.Task[None]] = []

    def progress(_: int) -> None:
        if not coming:
            coming.append(asyncio.create_task(scene.know(dora)))

    mails = [letter(f"m{n}@x", cc=[DORA], date=hours(n)) for n in range(6)]
    await imports.import_mail(scene.house, "anna", ((raw, None) for raw in mails), progress)
    await coming[0]

    assert [(slot(thread), thread.reason, people(thread)) for thread in await scene.threads()] == [
        ("deal:61", "linked_single_open_item", ["person:3", "person:4", "organization:7"])
    ] * 6


async def test_mail_that_an_import_has_joined_to_a_decided_thread_is_asked_about_at_its_end(
    either: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L6 changes persons and organizations of the thread meanwhile, and asks about no message."""
    known = {"kind": "person", "id": "5", "title": "Quentin", "addresses": ["q@client.example"]}
    await either.know(*CLIENT, known)
    await either.arrive(letter("a@x", sender=ANNA, to="q@client.example"))
    reply = letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1))
    await _place(either, monkeypatch, reply, letter("other@x", sender=STRANGER))

    await either.know(known | {"organization": "7"})
    assert (either.told[-1]["trigger"], either.told[-1]["reason"]) == ("directory", "no_item")
    assert await either.count("message", schema.message.c.undecided) == 2
    await imports.finish_imports(either.house)

    thread = await either.thread_of("a@x")
    assert (slot(thread), thread.reason) == ("deal:61", "linked_single_open_item")
    assert await either.count("message", schema.message.c.undecided) == 0


async def test_a_conversion_while_an_import_is_on_leaves_its_mail_to_be_asked_about(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """L10 hands decided threads over at once; those that wait meet the deal when they are decided."""
    await scene.know(PERSON, LEAD)
    await scene.arrive(letter("a@x"))
    reply = letter("b@x", refers=["a@x"], date=hours(1))
    await _place(scene, monkeypatch, reply, letter("other@x", date=hours(2)))

    await scene.know(CONVERTED)
    assert slot(await scene.thread_of("a@x")) == "deal:62"
    assert await scene.count("message", schema.message.c.undecided) == 2
    await imports.finish_imports(scene.house)

    assert [(slot(thread), thread.reason) for thread in await scene.threads()] == [
        ("deal:62", "kept_existing_link"),
        ("deal:62", "linked_single_open_item"),
    ]
    assert await scene.count("message", schema.message.c.undecided) == 0
