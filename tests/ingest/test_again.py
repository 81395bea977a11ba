"""`decide` asks rows 6 to 14 again, for threads that no hand has settled (linking.md L28)."""

from collections.abc import Callable

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    DORA,
    OTHER_DEAL,
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
from maillinkd.ingest.hand import Refused

QUIETLY: Callable[[int], None] = lambda _: None  # noqa: E731


async def decide(scene: Scene, item: str | None = None, since: float | None = None) -> list[dict[str, object]]:
    when = None if since is None else hours(since)
    ref = None if item is None else ItemRef.parse(item)
    return await scene.house.decide(since=when, item=ref, dry_run=False, progress=QUIETLY)


async def test_items_that_were_imported_late_fill_the_slots(either: Scene) -> None:
    await either.arrive(letter("a@x"))
    await either.know(*CLIENT)

    (line,) = await decide(either)

    thread = await either.thread()
    assert (slot(thread), thread.reason, line["trigger"], line["slot_before"]) == (
        "deal:61", "linked_single_open_item", "decide", None,
    )  # fmt: skip


async def test_a_changed_policy_counts(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", refers=["gone@x"]))
    scene.house.office = office_with(policy={"unknown_start": "leave"})

    await decide(scene)

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.candidates) == (None, "item_newer_than_thread", ("deal:61",))


async def test_a_link_goes_where_today_another_answer_stands(scene: Scene) -> None:
    """From an automatic slot that is empty again: what is kept while mail comes is asked anew here."""
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    await scene.know(OTHER_DEAL)

    await decide(scene)

    assert (await scene.thread()).reason == "ambiguous_several_open_items"


async def test_what_a_hand_has_settled_stays(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"), letter("b@x"))
    await scene.house.link("anna", [1, 2], ItemRef.parse("deal:62"))
    await scene.house.unlink("anna", [2], ItemRef.parse("deal:62"))
    await scene.know(OTHER_DEAL | {"deleted": True})

    assert await decide(scene) == []
    assert [slot(thread) for thread in await scene.threads()] == ["deal:62", None]


async def test_what_mail_to_an_items_address_has_settled_stays(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal62")))

    assert await decide(scene) == []
    assert slot(await scene.thread()) == "deal:62"


async def test_persons_whom_a_hand_unlinked_stay_away(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    await scene.house.unlink("anna", [1], ItemRef.parse("person:3"))

    await decide(scene)

    thread = await scene.thread()
    assert (people(thread), slot(thread), thread.reason) == ([], None, "no_known_person")


async def test_only_threads_with_mail_since_then(scene: Scene) -> None:
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(5)))
    await scene.know(*CLIENT)

    assert [line["thread"] for line in await decide(scene, since=1)] == [2]


@pytest.mark.parametrize(("item", "threads"), [("deal:61", [1]), ("person:3", [1]), ("deal:70", [2])])
async def test_only_threads_of_an_item_or_its_person(scene: Scene, item: str, threads: list[int]) -> None:
    await scene.arrive(letter("a@x"), letter("b@x", sender=DORA), letter("c@x", sender=STRANGER))
    dora = {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]}
    await scene.know(*CLIENT, dora, {"kind": "deal", "id": "70", "person": "4", "added_at": "2026-01-01T00:00:00Z"})

    assert [line["thread"] for line in await decide(scene, item=item)] == threads


async def test_an_unknown_item_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="there is no deal:99"):
        await decide(scene, item="deal:99")
