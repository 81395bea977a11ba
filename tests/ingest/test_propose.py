"""`propose` finds the older threads of an item's person that row 13 left empty (linking.md L25)."""

from collections.abc import Callable

import pytest

from ingest.scene import (
    ANNA,
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    OTHER_DEAL,
    STRANGER,
    Scene,
    batch,
    fetched,
    hours,
    letter,
    office_with,
    slot,
)
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.ingest.hand import NotPermitted, Refused
from maillinkd.ingest.propose import Proposal, unambiguous

DEAL_61, DEAL_62 = ItemRef.parse("deal:61"), ItemRef.parse("deal:62")
LATE = DEAL | {"added_at": "2026-03-09T09:00:00Z"}
"""A deal that came a week after the mail."""
LATE_TOO = OTHER_DEAL | {"added_at": "2026-03-10T09:00:00Z"}
DORA_OF_THE_SHOP = {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]}
QUIETLY: Callable[[int], None] = lambda _: None  # noqa: E731


async def proposed(scene: Scene, item: str | None = None, owner: str | None = None) -> list[tuple[str, int]]:
    found = await changes.proposals(scene.house, ItemRef.parse(item) if item else None, owner)
    return [(str(each.item), each.thread) for each in found]


async def test_older_threads_of_the_person_are_proposed_the_oldest_first(either: Scene) -> None:
    await either.know(CLIENT[0], CLIENT[1], LATE, DORA_OF_THE_SHOP)
    await either.arrive(
        letter("b@x", date=hours(1)),
        letter("a@x"),
        letter("dora@x", sender=DORA),
        letter("nobody@x", sender=STRANGER),
    )
    await either.synced.file(batch(fetched(9, letter("young@x", date=hours(720)), hours(720))))

    assert await proposed(either, "deal:61") == await proposed(either)
    threads = [await either.thread_of(id_) for id_ in ("a@x", "b@x")]
    assert await proposed(either, "deal:61") == [("deal:61", thread.id) for thread in threads]


async def test_a_deal_that_came_in_the_place_of_the_first_one(scene: Scene) -> None:
    """The thread was left empty because of deal:61; its person's open deal is another one now."""
    await scene.know(*CLIENT[:2], LATE)
    await scene.arrive(letter("a@x"))
    await scene.know(LATE | {"status": "lost"}, LATE_TOO)

    assert await proposed(scene, "deal:62") == [("deal:62", 1)]
    assert await proposed(scene) == [("deal:62", 1)]


async def test_a_closed_item_is_proposed_when_it_is_asked_for(scene: Scene) -> None:
    """L18: a hand may choose it."""
    await scene.know(*CLIENT[:2], LATE)
    await scene.arrive(letter("a@x"))
    await scene.know(LATE | {"status": "won"})

    assert (await proposed(scene, "deal:61"), await proposed(scene)) == ([("deal:61", 1)], [])


async def test_a_converted_lead_means_its_deal(scene: Scene) -> None:
    await scene.know(*CLIENT[:2], LEAD | {"added_at": LATE["added_at"]})
    await scene.arrive(letter("a@x"))
    await scene.know(LATE_TOO | {"converted_from": "abc-1"})

    assert await proposed(scene, "lead:ABC-1") == await proposed(scene) == [("deal:62", 1)]


async def test_what_was_settled_since_is_proposed_no_more(scene: Scene) -> None:
    await scene.know(*CLIENT[:2], LATE, OTHER_DEAL | {"status": "won"})
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    await changes.link(scene.house, "anna", [1], DEAL_62)

    assert await proposed(scene, "deal:61") == [("deal:61", 2)]


@pytest.mark.parametrize(
    ("policy", "item"),
    [
        ({"include_participants": True}, {"person": None, "participants": ["3"]}),
        ({"include_organization_items": True}, {"person": None, "organization": "7"}),
    ],
    ids=["who takes part", "of the organization alone"],
)
async def test_items_that_the_policy_counts_beside_the_person_s(scene: Scene, policy: dict, item: dict) -> None:  # type: ignore[type-arg]
    """L7."""
    scene.house.office = office_with(policy=policy)
    await scene.know(*CLIENT[:2], LATE | item)
    await scene.arrive(letter("a@x"))

    assert await proposed(scene, "deal:61") == await proposed(scene) == [("deal:61", 1)]


async def test_only_the_first_person_is_linked_and_an_other_s_item_is_proposed(scene: Scene) -> None:
    """single_contact: items are sought for all known participants."""
    scene.house.office = office_with(policy={"single_contact": True})
    await scene.know(*CLIENT[:2], DORA_OF_THE_SHOP, LATE | {"person": "4"})
    await scene.arrive(letter("a@x", to=[ANNA, DORA]))

    assert await proposed(scene, "deal:61") == [("deal:61", 1)]


async def test_an_item_of_a_person_who_is_not_linked_came_later(either: Scene) -> None:
    """single_contact: the thread waits for deal:61 of the first person; the second has got deal:62 since."""
    either.house.office = office_with(policy={"single_contact": True})
    await either.know(*CLIENT[:2], DORA_OF_THE_SHOP, LATE)
    await either.arrive(letter("a@x", to=[ANNA, DORA]), letter("b@x"))

    await either.know(LATE_TOO | {"person": "4"})

    assert await proposed(either, "deal:62") == [("deal:62", 1)]
    assert await proposed(either) == [("deal:61", 1), ("deal:61", 2), ("deal:62", 1)]


async def test_threads_of_one_owner(scene: Scene) -> None:
    await scene.know(*CLIENT[:2], LATE)
    await scene.arrive(letter("a@x"))
    await scene.arrive(letter("b@x"), mailbox="ben")

    assert await proposed(scene, "deal:61", "ben") == await proposed(scene, None, "ben") == [("deal:61", 2)]


@pytest.mark.parametrize(
    ("item", "why"),
    [("deal:99", "there is no deal:99"), ("deal:62", "deleted"), ("person:3", "deals, leads and projects")],
)
async def test_what_nothing_is_proposed_for(scene: Scene, item: str, why: str) -> None:
    await scene.know(*CLIENT, OTHER_DEAL | {"deleted": True})

    with pytest.raises(Refused, match=why):
        await proposed(scene, item)


def test_a_thread_that_is_proposed_for_two_items_is_unclear() -> None:
    proposals = [Proposal(DEAL_61, 1, 1), Proposal(DEAL_61, 2, 2), Proposal(DEAL_62, 2, 2)]

    assert unambiguous(proposals) == ({1: DEAL_61}, {2: [DEAL_61, DEAL_62]})


async def test_proposed_threads_are_linked_by_hand_as_one_batch_that_undo_takes_back(
    either: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maillinkd.ingest.changes.DECIDE_CHUNK", 1)
    await either.know(*CLIENT[:2], LATE)
    await either.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    before = await either.threads()

    lines = await changes.link_proposed(either.house, "anna", {1: DEAL_61, 2: DEAL_61}, QUIETLY)

    assert [(line["thread"], line["slot"], line["reason"], line["batch"]) for line in lines] == [
        (1, "deal:61", "manual_link_kept", 1), (2, "deal:61", "manual_link_kept", 1),
    ]  # fmt: skip
    await changes.undo_batch(either.house, "anna", 1, QUIETLY)
    assert await either.threads() == before


async def test_a_thread_that_was_decided_meanwhile_is_not_linked(scene: Scene) -> None:
    await scene.know(*CLIENT[:2], LATE, OTHER_DEAL | {"status": "won"})
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    await changes.link(scene.house, "anna", [1], DEAL_62)

    lines = await changes.link_proposed(scene.house, "anna", {1: DEAL_61, 2: DEAL_61}, QUIETLY)

    assert [line["thread"] for line in lines] == [2]
    assert [slot(view) for view in await scene.threads()] == ["deal:62", "deal:61"]


async def test_who_may_not_change_one_of_them_links_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """L17."""
    monkeypatch.setattr("maillinkd.ingest.changes.DECIDE_CHUNK", 1)
    await scene.know(*CLIENT[:2], LATE)
    await scene.arrive(letter("a@x"))
    await scene.arrive(letter("b@x"), mailbox="ben")

    with pytest.raises(NotPermitted, match="thread 2: it is ben's"):
        await changes.link_proposed(scene.house, "anna", {1: DEAL_61, 2: DEAL_61}, QUIETLY)

    assert [slot(view) for view in await scene.threads()] == [None, None]
