"""`undo` restores exactly what was before a batch, and overwrites nothing that came later (linking.md L20)."""

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from ingest.scene import (
    CARLA,
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    OTHER_DEAL,
    STRANGER,
    Scene,
    batch,
    bcc,
    fetched,
    hours,
    letter,
    office_with,
    people,
    received,
    slot,
)
from maillinkd.cli.threads import thread_line
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.ingest.filing import Arrival, Order, file_messages
from maillinkd.ingest.hand import NotPermitted, Refused
from maillinkd.ingest.undo import Undone
from maillinkd.mail.header import split
from maillinkd.mail.message import parse
from maillinkd.store import schema
from maillinkd.store.database import open_database

DEAL_61, DEAL_62, LEAD_1 = map(ItemRef.parse, ("deal:61", "deal:62", "lead:abc-1"))
CARLA_3, DORA_4, CLIENT_7 = map(ItemRef.parse, ("person:3", "person:4", "organization:7"))
DORA_OF_THE_SHOP = {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]}
QUIETLY: Callable[[int], None] = lambda _: None  # noqa: E731

Json = dict[str, Any]


async def shown(scene: Scene) -> list[Json]:
    """All threads as `threads show --json` has them."""
    found = []
    for view in await scene.threads():
        messages = [(each.message_id, each.flags) for each in await scene.messages(view)]
        found.append(thread_line(view) | {"messages": messages})
    return found


async def kept(scene: Scene) -> list[tuple[Any, ...]]:
    """Links and tombstones as they lie on the shelf."""
    async with scene.database.reading() as connection:
        links = [tuple(row) for row in await connection.execute(schema.link.select())]
        dead = [tuple(row) for row in await connection.execute(schema.tombstone.select())]
    return sorted(links, key=str) + sorted(dead, key=str)


async def undo(scene: Scene, number: int, user: str = "boss") -> Undone:
    return await changes.undo_batch(scene.house, user, number, QUIETLY)


async def decide(scene: Scene) -> list[Json]:
    return await changes.decide(scene.house, since=None, item=None, dry_run=False, progress=QUIETLY)


@pytest.mark.parametrize(
    ("what", "ref"),
    [
        ("link", DEAL_62), ("link", DEAL_61), ("link", DORA_4), ("link", CARLA_3),
        ("unlink", DEAL_61), ("unlink", CARLA_3), ("unlink", CLIENT_7),
    ],
    ids=str,
)  # fmt: skip
async def test_every_change_by_hand_can_be_taken_back(either: Scene, what: str, ref: ItemRef) -> None:
    await either.know(*CLIENT, OTHER_DEAL | {"status": "won"}, DORA_OF_THE_SHOP)
    await either.arrive(letter("a@x"))
    before = await shown(either), await kept(either)
    (line,) = await getattr(changes, what)(either.house, "anna", [1], ref)

    undone = await undo(either, line["batch"], "anna")

    assert (await shown(either), await kept(either)) == before
    (back,) = undone.lines
    assert (back["trigger"], back["actor"], back["undoes"], back["batch"]) == ("manual", "anna", line["decision"], 2)
    assert (back["slot_before"], back["slot"], back["reason"]) == (
        line["slot"], "deal:61", "linked_single_open_item",
    )  # fmt: skip
    assert (undone.left, either.told[-1]) == ([], back)


async def test_an_undo_can_be_undone(either: Scene) -> None:
    await either.know(*CLIENT, OTHER_DEAL)
    await either.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    before = await shown(either)
    await changes.link(either.house, "anna", [1, 2], DEAL_62)
    linked = await shown(either), await kept(either)

    await undo(either, 1)
    assert await shown(either) == before
    await undo(either, 2)
    assert (await shown(either), await kept(either)) == linked
    await undo(either, 3)
    assert await shown(either) == before


async def test_batches_are_taken_back_the_latest_first(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    before = await shown(scene), await kept(scene)
    await changes.unlink(scene.house, "anna", [1], CARLA_3)
    await changes.link(scene.house, "anna", [1], DEAL_62)

    (left,) = (await undo(scene, 1)).left
    assert (left.thread, left.decision) == (1, 3)
    assert left.because == "anna has changed it since (decision 3): undo batch 2 first"

    await undo(scene, 2)
    await undo(scene, 1)
    assert (await shown(scene), await kept(scene)) == before

    (left,) = (await undo(scene, 1)).left
    assert left.because == "boss has changed it since (decision 5): undo batch 4 first"
    await undo(scene, 4)
    await undo(scene, 1)
    assert (await shown(scene), await kept(scene)) == before


async def test_what_a_hand_had_unlinked_is_unlinked_again(scene: Scene) -> None:
    """Row 2, and tombstones with the numbers of their decisions."""
    await scene.know(*CLIENT, OTHER_DEAL | {"status": "won"})
    await scene.arrive(letter("a@x"))
    await changes.unlink(scene.house, "anna", [1], DEAL_61)
    await changes.unlink(scene.house, "anna", [1], CARLA_3)
    before = await shown(scene), await kept(scene)
    await changes.link(scene.house, "anna", [1], CARLA_3)
    await changes.link(scene.house, "anna", [1], DEAL_62)

    await undo(scene, 4)
    await undo(scene, 3)

    assert (await shown(scene), await kept(scene)) == before
    assert before[0][0]["reason"] == "manual_unlink_respected"


async def test_what_a_merge_had_dropped_waits_for_a_hand_again(scene: Scene) -> None:
    """slot_lost_in_merge."""
    await scene.know(*CLIENT, DORA_OF_THE_SHOP, OTHER_DEAL | {"person": "4"})
    await scene.arrive(letter("a@x"), letter("b@x", sender=DORA, date=hours(1)))
    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)
    before = await shown(scene)
    assert before[0]["flags"] == ("slot_lost_in_merge",)
    await changes.link(scene.house, "anna", [1], DEAL_62)
    assert (await scene.thread()).flags == ()

    await undo(scene, 1)

    assert await shown(scene) == before


async def test_a_smart_bcc_link_is_one_again(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.deliver(received(letter("a@x", sender="anna@ourco.example", to=CARLA), bcc("deal62")))
    before = await shown(scene), await kept(scene)
    await changes.link(scene.house, "anna", [1], DEAL_61)

    await undo(scene, 1)

    assert (await shown(scene), await kept(scene)) == before


async def test_what_decide_did_under_another_policy_is_taken_back(either: Scene) -> None:
    """Persons are as they were, although the policy in force would link another set of them."""
    await either.know(*CLIENT, DORA_OF_THE_SHOP)
    await either.arrive(letter("a@x", to=["anna@ourco.example", DORA]), letter("b@x", date=hours(1)))
    before = await shown(either), await kept(either)
    either.house.office = office_with(policy={"single_contact": True})
    (line,) = await decide(either)
    assert line["persons"] == ["person:3"]

    undone = await undo(either, line["batch"])

    assert (await shown(either), await kept(either)) == before
    assert [each["undoes"] for each in undone.lines] == [line["decision"]]


async def test_what_decide_did_only_an_admin_takes_back(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    await scene.know(*CLIENT)
    before = await shown(scene)
    await decide(scene)

    with pytest.raises(NotPermitted, match="only an admin"):
        await undo(scene, 1, "anna")
    await undo(scene, 1, "boss")

    assert await shown(scene) == before
    with pytest.raises(NotPermitted, match="only an admin"):
        await undo(scene, 2, "anna")


# -- what came later


async def mail(scene: Scene) -> None:
    await scene.arrive(letter("c@x", refers=["a@x"], date=hours(2)), first_uid=9)


async def a_merge(scene: Scene) -> None:
    await scene.arrive(letter("c@x", refers=["a@x", "z@x"], date=hours(2)), first_uid=9)


async def a_hand(scene: Scene) -> None:
    await changes.link(scene.house, "boss", [1], DEAL_61)


async def a_decide(scene: Scene) -> None:
    await scene.know(OTHER_DEAL | {"status": "won"})
    await decide(scene)


@pytest.mark.parametrize(
    ("later", "because"),
    [
        (mail, "mail has been decided since (decision {n}): link or unlink it by hand"),
        (a_merge, "it has become one with another thread since (decision {n} about thread 1)"),
        (a_hand, "boss has changed it since (decision {n}): undo batch 2 first"),
    ],
)
async def test_a_thread_that_was_decided_later_is_left_and_the_others_are_not(
    either: Scene, later: Callable[[Scene], Awaitable[None]], because: str
) -> None:
    await either.know(*CLIENT, OTHER_DEAL)
    await either.arrive(letter("a@x"), letter("b@x", date=hours(1)), letter("z@x", date=hours(1.5)))
    before = await shown(either)
    await changes.link(either.house, "anna", [1, 2], DEAL_62)
    await later(either)
    newest = either.told[-1]["decision"]
    after = await shown(either)

    undone = await undo(either, 1, "anna")

    assert [(each.thread, each.decision, each.because) for each in undone.left] == [
        (1, newest, because.format(n=newest))
    ]
    assert [line["thread"] for line in undone.lines] == [2]
    now = await shown(either)
    assert [each for each in now if each["id"] == 1] == [each for each in after if each["id"] == 1]
    assert [each for each in now if each["id"] == 2] == [each for each in before if each["id"] == 2]


async def test_both_threads_of_a_later_merge_are_left(scene: Scene) -> None:
    """The number that went up in the other one is followed."""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    await changes.link(scene.house, "anna", [1, 2], DEAL_62)
    await scene.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=9)
    before = await shown(scene), await scene.count("batch")

    undone = await undo(scene, 1)

    assert (await shown(scene), await scene.count("batch")) == before
    assert ([each.thread for each in undone.left], undone.lines) == ([1, 2], [])
    assert {each.decision for each in undone.left} == {5}


async def test_decide_since_stands_in_the_way(scene: Scene) -> None:
    await scene.know(*CLIENT, DORA_OF_THE_SHOP)
    await scene.arrive(letter("a@x", sender=STRANGER))
    await changes.link(scene.house, "anna", [1], DORA_4)
    await a_decide(scene)
    await scene.know(OTHER_DEAL | {"person": "4"})
    (line,) = await decide(scene)

    (left,) = (await undo(scene, 1, "anna")).left

    assert left.because == f"`decide` has changed it since (decision {line['decision']}): undo batch 2 first"


async def test_mail_that_is_not_decided_yet_stands_in_the_way(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    await changes.link(scene.house, "anna", [1], DEAL_62)
    await place_only(scene, letter("b@x", refers=["a@x"], date=hours(1)))

    (left,) = (await undo(scene, 1)).left

    assert (left.because, left.decision) == ("mail has come since, and is not decided yet", None)


async def place_only(scene: Scene, *mails: bytes) -> None:
    """What an import leaves that was cut off before it decided."""
    arrivals = [Arrival(parse(split(raw)[0], received_at=hours(0), size=1), None, 1, "anna") for raw in mails]
    async with scene.database.transaction() as connection:
        await file_messages(
            connection, scene.house.office, "anna", "imap", arrivals, instance="test", order=Order.LATER
        )


async def test_messages_that_a_hand_decided_first_are_decided_as_without_it(scene: Scene) -> None:
    """A hand came before an import had decided its messages."""
    await scene.know(*CLIENT, OTHER_DEAL | {"status": "won"})
    await place_only(scene, letter("a@x"))
    await changes.link(scene.house, "anna", [1], DEAL_62)

    await undo(scene, 1)

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == ("deal:61", "linked_single_open_item")
    assert [(line["trigger"], line["slot"]) for line in scene.told] == [
        ("manual", "deal:62"), ("manual", "deal:61"),
    ]  # fmt: skip


# -- the directory goes on


async def test_persons_follow_the_directory_as_it_is_now(either: Scene) -> None:
    """L6: the result does not depend on when a person became known."""
    await either.know(*CLIENT, OTHER_DEAL)
    await either.arrive(letter("a@x", to=["anna@ourco.example", DORA]))
    await changes.link(either.house, "anna", [1], DEAL_62)
    await either.know(DORA_OF_THE_SHOP)

    undone = await undo(either, 1)

    thread = await either.thread()
    assert [line["trigger"] for line in undone.lines] == ["manual", "directory"]
    assert (slot(thread), people(thread), undone.left) == (None, ["person:3", "person:4", "organization:7"], [])


async def test_a_lead_that_was_converted_since_comes_back_as_its_deal(scene: Scene) -> None:
    """L10."""
    await scene.know(CLIENT[0], CLIENT[1], LEAD, OTHER_DEAL | {"status": "won"})
    await scene.arrive(letter("a@x"))
    await changes.link(scene.house, "anna", [1], DEAL_62)
    await scene.know(DEAL | {"converted_from": "abc-1"})

    _, line = (await undo(scene, 1)).lines

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.candidates) == ("deal:61", "converted_lead_followed", ())
    assert (thread.decision, thread.linked_by and thread.linked_by.decision) == (line["decision"], line["decision"])


async def test_a_deleted_item_comes_back_as_one_that_is_deleted(scene: Scene) -> None:
    """L11: an item that is deleted keeps its threads."""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    await changes.link(scene.house, "anna", [1], DEAL_61)
    await changes.link(scene.house, "anna", [1], DEAL_62)
    await scene.know(DEAL | {"deleted": True})

    await undo(scene, 2)

    thread = await scene.thread()
    assert (slot(thread), thread.slot_deleted, thread.reason) == ("deal:61", True, "manual_link_kept")


# -- refused


@pytest.mark.parametrize(
    ("user", "number", "error", "why"),
    [
        ("anna", 9, Refused, "there is no batch 9"),
        ("nobody", 1, NotPermitted, "no user 'nobody'"),
        ("anna", 1, NotPermitted, "anna may not change thread 2: it is ben's"),
        ("clara", 1, NotPermitted, "thread 1: it is anna's\nclara may not change thread 2"),
    ],
)
async def test_what_is_refused_changes_nothing(
    either: Scene, user: str, number: int, error: type[Exception], why: str
) -> None:
    """L17: one thread that the user may not change is enough."""
    await either.know(*CLIENT, OTHER_DEAL)
    await either.arrive(letter("a@x"))
    await either.arrive(letter("b@x"), mailbox="ben")
    await changes.link(either.house, "boss", [1, 2], DEAL_62)
    await either.house.note_told()
    before = await either.counts(), await shown(either)

    with pytest.raises(error, match=why):
        await undo(either, number, user)

    assert (await either.counts(), await shown(either)) == before


async def test_facts_that_were_erased_cannot_be_restored(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    await changes.link(scene.house, "anna", [1], DEAL_62)
    async with scene.database.transaction() as connection:
        await connection.execute(update(schema.decision).where(schema.decision.c.id == 2).values(facts=None))

    (left,) = (await undo(scene, 1)).left

    assert left.because == "the journal no longer has what was before decision 2"


# -- in any order


HANDS = [DEAL_61, DEAL_62, LEAD_1, CARLA_3, DORA_4, CLIENT_7]
MAILS = [
    letter("a@x"),
    letter("b@x", sender=DORA, date=hours(1)),
    letter("c@x", refers=["a@x", "b@x"], date=hours(2)),
    letter("d@x", sender=STRANGER, refers=["b@x"], date=hours(3)),
    letter("e@x", sender=DORA, to=["anna@ourco.example", CARLA], refers=["z@x"], date=hours(-1)),
]
ITEMS = [
    OTHER_DEAL,
    OTHER_DEAL | {"person": "4", "status": "won"},
    DEAL | {"status": "lost"},
    DORA_OF_THE_SHOP,
    DORA_OF_THE_SHOP | {"organization": "7"},
    CLIENT[1] | {"deleted": True},
    LEAD | {"person": "4"},
    {"kind": "deal", "id": "63", "title": "Attic", "converted_from": "abc-1", "added_at": "2026-02-01T09:00:00Z"},
    {"kind": "deal", "id": "64", "title": "New", "person": "3", "added_at": "2026-04-01T09:00:00Z"},
]
POLICIES: list[Json] = [{}, {"single_contact": True}, {"many_recipients": "all"}, {"include_participants": True}]

change = st.one_of(
    st.tuples(st.just("hand"), st.sampled_from(["link", "unlink"]), st.sampled_from(HANDS), st.integers(1, 3)),
    st.tuples(st.just("decide"), st.sampled_from(POLICIES)),
)
event = st.one_of(
    st.tuples(st.just("mail"), st.sampled_from(MAILS)),
    st.tuples(st.just("items"), st.sampled_from(ITEMS)),
    change,
)


async def happens(scene: Scene, what: tuple[Any, ...], number: int) -> int | None:
    """Lets something happen. Returns the batch of what can be taken back."""
    match what:
        case ("mail", raw):
            await scene.synced.file(batch(fetched(number, raw)))
        case ("items", item):
            await scene.know(item)
        case ("decide", policy):
            scene.house.office = office_with(policy=policy)
            lines = await decide(scene)
            return lines[0]["batch"] if lines else None
        case ("hand", command, ref, count):
            threads = [view.id for view in await scene.threads()][:count]
            if threads:
                try:
                    return (await getattr(changes, command)(scene.house, "boss", threads, ref))[0]["batch"]  # type: ignore[no-any-return]
                except Refused:
                    return None
    return None


@given(events=st.lists(event, max_size=10), last=change)
@example(events=[("mail", MAILS[1]), ("mail", MAILS[0]), ("mail", MAILS[2])], last=("hand", "link", DEAL_61, 1))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_happened_before_an_undo_restores_it(
    empty_file: Path, events: list[tuple[Any, ...]], last: tuple[Any, ...]
) -> None:
    """And the undo of that undo restores what the batch had made."""

    async def play(directory: str) -> None:
        shutil.copy(empty_file, f"{directory}/mail.db")
        database = open_database(f"sqlite+aiosqlite:///{directory}/mail.db")
        try:
            scene = Scene.on(database)
            await scene.know(*CLIENT)
            for number, each in enumerate(events, start=1):
                await happens(scene, each, number)
            before = await shown(scene), await kept(scene)
            made = await happens(scene, last, 99)
            if made is None:
                return
            after = await shown(scene), await kept(scene)
            undone = await undo(scene, made)
            assert (await shown(scene), await kept(scene), undone.left) == (*before, [])
            await undo(scene, undone.lines[0]["batch"])
            assert (await shown(scene), await kept(scene)) == after
        finally:
            await database.close()

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(play(directory))
