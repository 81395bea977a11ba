"""Who may link by hand, to what, and what follows from it (linking.md, "By hand")."""

import pytest

from ingest.scene import (
    CARLA,
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    OTHER_DEAL,
    STRANGER,
    Scene,
    hours,
    letter,
    people,
    slot,
)
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.ingest.hand import NotPermitted, Refused

DEAL_61, DEAL_62 = ItemRef.parse("deal:61"), ItemRef.parse("deal:62")
CARLA_3, DORA_4 = ItemRef.parse("person:3"), ItemRef.parse("person:4")
DORA_OF_THE_SHOP = {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]}


@pytest.mark.parametrize(
    ("user", "mailbox"),
    [("anna", "anna"), ("boss", "anna"), ("anna", "support"), ("ben", "support"), ("boss", "support")],
    ids=["the owner", "an admin", "a member of the team", "another member", "an admin of a team's"],
)
async def test_who_may_link(scene: Scene, user: str, mailbox: str) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", sender=STRANGER), mailbox=mailbox)

    (line,) = await changes.link(scene.house, user, [(await scene.thread()).id], DEAL_61)

    assert (line["actor"], line["trigger"], line["outcome"], line["reason"], line["slot"]) == (
        user, "manual", "linked", "manual_link_kept", "deal:61",
    )  # fmt: skip
    assert slot(await scene.thread()) == "deal:61"


@pytest.mark.parametrize(
    ("user", "mailbox"),
    [("ben", "anna"), ("clara", "support"), ("nobody", "anna"), ("support", "support")],
    ids=["another user", "who is not in the team", "who is not configured", "a team itself"],
)
@pytest.mark.parametrize("command", ["link", "unlink"])
async def test_who_may_not(scene: Scene, user: str, mailbox: str, command: str) -> None:
    """L17: "not permitted", and nothing changes."""
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"), mailbox=mailbox)
    await scene.house.note_told()
    before = await scene.counts()

    with pytest.raises(NotPermitted):
        await getattr(changes, command)(scene.house, user, [(await scene.thread()).id], DEAL_61)

    assert (await scene.counts(), slot(await scene.thread())) == (before, "deal:61")


async def test_several_threads_are_one_batch(either: Scene) -> None:
    """L19, L20."""
    await either.know(*CLIENT, OTHER_DEAL)
    await either.arrive(letter("a@x"), letter("b@x"))
    await either.arrive(letter("c@x"), mailbox="ben")

    lines = await changes.link(either.house, "boss", [each.id for each in await either.threads()], DEAL_62)

    assert [slot(each) for each in await either.threads()] == ["deal:62"] * 3
    assert [line["batch"] for line in lines] == [1, 1, 1]


@pytest.mark.parametrize("wrong", [99, 2], ids=["unknown", "not permitted"])
async def test_several_threads_are_linked_all_or_none(either: Scene, wrong: int) -> None:
    await either.know(*CLIENT, OTHER_DEAL)
    await either.arrive(letter("a@x"))
    await either.arrive(letter("b@x"), mailbox="ben")
    await either.house.note_told()
    before = await either.counts()

    with pytest.raises(Refused):
        await changes.link(either.house, "anna", [1, wrong], DEAL_62)

    assert await either.counts() == before


async def test_a_hand_replaces_what_is_there_and_mail_keeps_it(scene: Scene) -> None:
    """L18, row 1: closed or open, old or new."""
    await scene.know(*CLIENT, OTHER_DEAL | {"status": "won", "added_at": "2030-01-01T00:00:00Z"})
    await scene.arrive(letter("a@x"))

    await changes.link(scene.house, "anna", [1], DEAL_62)
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == ("deal:62", "manual_link_kept")


async def test_a_hand_unlinks_and_mail_respects_it(scene: Scene) -> None:
    """Row 2."""
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    await changes.unlink(scene.house, "anna", [1], DEAL_61)
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.linked_by) == (None, "manual_unlink_respected", None)


async def test_a_link_points_at_the_decision_that_made_it(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", sender=STRANGER))
    (line,) = await changes.link(scene.house, "anna", [1], DEAL_61)
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    thread = await scene.thread()
    assert thread.linked_by is not None
    assert (thread.linked_by.decision, thread.decision) == (line["decision"], line["decision"] + 1)


async def test_what_is_not_linked_cannot_be_unlinked_and_leaves_no_tombstone(scene: Scene) -> None:
    await scene.know(*CLIENT, DORA_OF_THE_SHOP)
    await scene.arrive(letter("a@x"))

    for ref in (DEAL_62, DORA_4):
        with pytest.raises(Refused, match=f"not linked to {ref}"):
            await changes.unlink(scene.house, "anna", [1], ref)

    assert await scene.count("tombstone") == 0


@pytest.mark.parametrize(
    ("item", "why"),
    [
        ("deal:99", "there is no deal:99"),
        ("deal:62", "is deleted"),
        ("product:1", "nothing can be linked to products"),
    ],
)
async def test_what_cannot_be_chosen(scene: Scene, item: str, why: str) -> None:
    await scene.know(*CLIENT, OTHER_DEAL | {"deleted": True}, {"kind": "product", "id": "1", "title": "Tiles"})
    await scene.arrive(letter("a@x"))

    with pytest.raises(Refused, match=why):
        await changes.link(scene.house, "anna", [1], ItemRef.parse(item))


async def test_a_converted_lead_means_its_deal(scene: Scene) -> None:
    await scene.know(*CLIENT, LEAD, OTHER_DEAL | {"converted_from": "abc-1"})
    await scene.arrive(letter("a@x", sender=STRANGER))

    await changes.link(scene.house, "anna", [1], ItemRef.parse("lead:ABC-1"))
    assert slot(await scene.thread()) == "deal:62"

    await changes.unlink(scene.house, "anna", [1], ItemRef.parse("lead:abc-1"))
    assert slot(await scene.thread()) is None


async def test_a_person_that_a_hand_adds_may_fill_the_slot(either: Scene) -> None:
    """L18: after it the rows are asked over all messages."""
    await either.know(*CLIENT)
    await either.arrive(letter("a@x", sender=STRANGER), letter("b@x", sender=STRANGER, refers=["a@x"], date=hours(1)))

    await changes.link(either.house, "anna", [1], CARLA_3)

    thread = await either.thread()
    assert (people(thread), slot(thread), thread.reason) == (
        ["person:3", "organization:7"], "deal:61", "linked_single_open_item",
    )  # fmt: skip


async def test_a_tombstone_keeps_the_directory_and_later_mail_away(either: Scene) -> None:
    """L18: L3 to L6 respect it."""
    await either.know(*CLIENT)
    await either.arrive(letter("a@x"))
    await changes.unlink(either.house, "anna", [1], CARLA_3)

    await either.know({"kind": "person", "id": "3", "addresses": [CARLA, "carla@home.example"]})
    await either.arrive(letter("b@x", refers=["a@x"], date=hours(1)), first_uid=2)

    assert (people(await either.thread()), await either.count("tombstone")) == ([], 1)


async def test_linking_again_lifts_the_tombstone(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    await changes.unlink(scene.house, "anna", [1], CARLA_3)

    await changes.link(scene.house, "anna", [1], CARLA_3)

    assert (people(await scene.thread()), await scene.count("tombstone")) == (["person:3", "organization:7"], 0)


@pytest.mark.parametrize("unlinked_last", [True, False])
async def test_in_a_merge_the_later_act_of_a_hand_holds(either: Scene, unlinked_last: bool) -> None:
    """L21."""
    await either.know(*CLIENT)
    await either.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    if unlinked_last:
        await changes.link(either.house, "anna", [1], CARLA_3)
        await changes.unlink(either.house, "anna", [2], CARLA_3)
    else:
        await changes.unlink(either.house, "anna", [2], CARLA_3)
        await changes.link(either.house, "anna", [1], CARLA_3)

    await either.arrive(letter("c@x", sender=STRANGER, refers=["a@x", "b@x"], date=hours(2)), first_uid=3)

    thread = await either.thread()
    assert [str(ref) for ref in thread.persons] == ([] if unlinked_last else ["person:3"])
    assert await either.count("tombstone") == unlinked_last


async def test_a_hand_that_linked_wins_over_one_that_unlinked(scene: Scene) -> None:
    """L21: a hand that unlinked counts as by hand, after one that linked."""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    await changes.link(scene.house, "anna", [1, 2], DEAL_62)
    await changes.unlink(scene.house, "anna", [1], DEAL_62)

    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.flags) == ("deal:62", "manual_link_kept", ())


async def test_slot_lost_in_merge_holds_until_a_hand_settles_the_slot(scene: Scene) -> None:
    await scene.know(*CLIENT, DORA_OF_THE_SHOP, OTHER_DEAL | {"person": "4"}, DEAL)
    await scene.arrive(letter("a@x"), letter("b@x", sender=DORA, date=hours(1)))
    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)
    await scene.arrive(letter("d@x", refers=["c@x"], date=hours(3)), first_uid=4)
    assert (await scene.thread()).flags == ("slot_lost_in_merge",)

    await changes.link(scene.house, "anna", [1], DEAL_61)

    assert (await scene.thread()).flags == ()


async def test_a_number_from_before_a_merge_keeps_working(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)

    lines = await changes.link(scene.house, "anna", [2, 1, 1], DEAL_61)

    assert [line["thread"] for line in lines] == [1]
