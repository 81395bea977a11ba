"""`decide` asks rows 6 to 14 again, for threads that no hand has settled (L28); `simulate` only tries (L24)."""

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    DEAL,
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
from maillinkd.ingest import again, changes
from maillinkd.ingest.again import Change, simulate
from maillinkd.ingest.hand import Refused

QUIETLY: Callable[[int], None] = lambda _: None  # noqa: E731


async def decide(scene: Scene, item: str | None = None, since: float | None = None) -> list[dict[str, object]]:
    when = None if since is None else hours(since)
    ref = None if item is None else ItemRef.parse(item)
    return await changes.decide(scene.house, since=when, item=ref, dry_run=False, progress=QUIETLY)


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
    await changes.link(scene.house, "anna", [1, 2], ItemRef.parse("deal:62"))
    await changes.unlink(scene.house, "anna", [2], ItemRef.parse("deal:62"))
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
    await changes.unlink(scene.house, "anna", [1], ItemRef.parse("person:3"))

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


# --- Trying another policy ------------------------------------------------------------------------------------------


async def simulated(scene: Scene, since: float | None = None, **policy: object) -> list[Change]:
    """What would change; nothing is written."""
    before = await scene.counts()
    when = None if since is None else hours(since)
    async with scene.database.reading() as connection:
        found = simulate(connection, office_with(policy=policy), when, QUIETLY)
        changes = [each async for each in found]
    assert await scene.counts() == before
    return changes


def effect(change: Change) -> tuple[object, ...]:
    """As a line of `decide` says it."""
    before, after = change.before, change.after
    people = sorted(str(ref) for ref in after.links)
    slots = (before.slot.item and str(before.slot.item), after.slot.item and str(after.slot.item))
    return before.number, *slots, after.reason, after.candidates, tuple(people)


def effect_of_line(line: dict[str, Any]) -> tuple[object, ...]:
    people = tuple(sorted(line["persons"] + line["organizations"]))
    return line["thread"], line["slot_before"], line["slot"], line["reason"], tuple(line["candidates"]), people


async def crowd(scene: Scene) -> None:
    """Threads of every reason, some settled by hands and by Smart Bcc."""
    younger = OTHER_DEAL | {"added_at": "2026-04-01T00:00:00Z"}
    dora = {"kind": "person", "id": "4", "addresses": [DORA], "organization": "7"}
    await scene.know(*CLIENT, dora, {"kind": "deal", "id": "70", "person": "4", "added_at": "2026-04-01T00:00:00Z"})
    await scene.arrive(
        letter("a@x"),
        letter("b@x", sender=STRANGER, date=hours(1)),
        letter("c@x", sender=DORA, date=hours(2)),
        letter("d@x", to=[DORA, "e@y.example", "f@y.example"], date=hours(3)),
        letter("g@x", refers=["gone@x"], date=hours(4)),
        letter("h@x", to="ben@ourco.example", sender=ANNA, date=hours(5)),
        letter("i@x", date=hours(6)),
    )
    await changes.link(scene.house, "anna", [1], ItemRef.parse("deal:70"))
    await scene.deliver(received(letter("k@x", sender=ANNA, to=CARLA, date=hours(7)), bcc("deal61")))
    await scene.know(younger, DEAL | {"participants": ["4"]})


POLICIES: list[dict[str, object]] = [
    {},
    {"count_only_older_items": True},
    {"preset": "pipedrive-strict"},
    {"single_contact": True},
    {"unknown_start": "leave"},
    {"include_participants": True},
    {"include_organization_items": True},
    {"many_recipients": "all", "count_internal_recipients": True},
    {"ignore_plus_tags": True},
]


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: ", ".join(policy) or "today's")
async def test_decide_then_does_what_was_simulated(scene: Scene, policy: dict[str, object]) -> None:
    await crowd(scene)
    expected = [effect(change) for change in await simulated(scene, **policy)]

    scene.house.office = office_with(policy=policy)

    assert [effect_of_line(line) for line in await decide(scene)] == expected  # type: ignore[arg-type]


async def test_simulate_on_both_databases_leaves_what_was_settled(either: Scene) -> None:
    """L28"""
    await crowd(either)

    found = await simulated(either, count_only_older_items=True)

    assert {change.before.number for change in found}.isdisjoint({1, 8})
    assert len(found) > 0


async def test_simulate_looks_at_recent_threads_alone_if_asked(scene: Scene) -> None:
    await crowd(scene)
    all_of_them = await simulated(scene, preset="pipedrive-strict")

    recent = await simulated(scene, 5.5, preset="pipedrive-strict")

    assert 0 < len(recent) < len(all_of_them)
    assert {change.before.number for change in recent} == {
        change.before.number for change in all_of_them if change.before.last_message_at >= hours(5.5)
    }


async def test_simulate_asks_a_handful_of_statements_whatever_the_number_of_threads(scene: Scene) -> None:
    await scene.know(*CLIENT)

    async def statements() -> int:
        asked: list[str] = []

        def note(_: object, __: object, statement: str, *___: object) -> None:
            asked.append(statement)

        event.listen(scene.database.engine.sync_engine, "before_cursor_execute", note)
        try:
            await simulated(scene, preset="pipedrive-strict")
        finally:
            event.remove(scene.database.engine.sync_engine, "before_cursor_execute", note)
        return len(asked)

    await scene.arrive(letter("0@x"))
    one = await statements()
    await scene.arrive(*(letter(f"{n}@x") for n in range(1, 40)), first_uid=2)

    assert await statements() == one


async def test_simulate_tells_its_progress_page_by_page(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(again, "PAGE", 2)
    await scene.arrive(*(letter(f"{n}@x") for n in range(5)))
    told: list[int] = []

    async with scene.database.reading() as connection:
        assert [each async for each in simulate(connection, office_with(), None, told.append)] == []

    assert told == [2, 2, 1]


async def test_decide_for_an_item_finds_its_persons_threads_where_tags_are_ignored(scene: Scene) -> None:
    """L28: her address in the directory has a tag, the one that she writes from has none."""
    scene.house.office = office_with(policy={"ignore_plus_tags": True})
    await scene.know(PERSON | {"addresses": ["carla+crm@client.example"]})
    await scene.arrive(letter("a@x"))
    await scene.know(DEAL)

    lines = await decide(scene, item="deal:61")

    assert [(line["slot"], line["reason"]) for line in lines] == [("deal:61", "linked_single_open_item")]
