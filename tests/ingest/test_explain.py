"""`explain` gathers all that there is to say of a thread, and tries mail without keeping anything of it (L23)."""

import pytest

from ingest.scene import (
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    ORGANIZATION,
    OTHER_DEAL,
    PERSON,
    STRANGER,
    UNIVERSAL,
    Scene,
    batch,
    bcc,
    fetched,
    hours,
    letter,
    office_with,
    received,
)  # fmt: skip
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes as changing
from maillinkd.ingest.explain import Door, Explanation, Today, Tried, explain, explain_mail
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.sieve import Filtered
from maillinkd.linker.decision import Reason, Trigger
from maillinkd.linker.explain import Why
from maillinkd.mail.bonds import Bond, Tie

IN_ANNAS = Door(mailbox="anna")


async def explained(scene: Scene, number: int = 1) -> Explanation:
    async with scene.database.reading() as connection:
        return await explain(connection, scene.house.office, number)


async def tried(scene: Scene, raw: bytes, door: Door = IN_ANNAS) -> Tried:
    """What would become of a mail; nothing of it is there afterwards."""
    before = await scene.counts()
    found = await explain_mail(scene.database, scene.house.office, door, raw, None)
    assert await scene.counts() == before
    return found


def changes(found: Explanation) -> list[str]:
    return [way.change for way in found.ways or ()]


async def test_a_linked_thread(either: Scene) -> None:
    await either.know(*CLIENT)
    await either.arrive(letter("a@x"), letter("b@x", refers=["a@x"], date=hours(1)))

    found = await explained(either)

    assert (found.decision.number, found.trigger) == (1, Trigger.MESSAGE)
    assert found.rows[3].answer is True
    assert [(str(each.ref), each.why) for each in found.contacts] == [
        ("person:3", Why.ADDRESS), ("organization:7", Why.ORGANIZATION),
    ]  # fmt: skip
    assert found.items[ItemRef.parse("person:3")].title == "Carla"
    assert list(found.ties.values()) == [Tie(Bond.FIRST), Tie(Bond.REFERS, "a@x", found.messages[0].id)]
    assert (found.ways, found.today) == (None, Today(ItemRef.parse("deal:61"), Reason.LINKED_SINGLE_OPEN_ITEM))


async def test_candidates_come_the_likeliest_first(scene: Scene) -> None:
    """L12"""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x", subject="The cellar"))

    found = await explained(scene)

    assert [str(each.ref) for each in found.candidates] == ["deal:62", "deal:61"]
    assert changes(found) == ["deal:61 is closed", "deal:62 is closed", "a link by hand"]


async def test_what_is_proposed_looks_at_today(scene: Scene) -> None:
    """L28: the directory decides no thread; `decide` would."""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    await scene.know(OTHER_DEAL | {"status": "won"})

    found = await explained(scene)

    assert found.decision.line["reason"] == "ambiguous_several_open_items"
    assert found.today == Today(ItemRef.parse("deal:61"), Reason.LINKED_SINGLE_OPEN_ITEM)
    assert [str(way.slot) for way in found.ways or ()][:1] == ["deal:61"]


async def test_what_is_proposed_comes_true(scene: Scene) -> None:
    """Closed as `explain` says, and decided."""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    way = (await explained(scene)).ways[0]  # type: ignore[index]
    assert (way.change, str(way.slot)) == ("deal:61 is closed", "deal:62")

    await scene.know({"kind": "deal", "id": "61", "status": "lost"})
    await changing.decide(scene.house, since=None, item=None, dry_run=False, progress=lambda _: None)

    assert (await scene.thread()).slot == way.slot


async def test_an_item_without_a_time_of_creation_may_be_given_one(scene: Scene) -> None:
    """L9"""
    await scene.know(ORGANIZATION, PERSON, {"kind": "deal", "id": "70", "person": "3"})
    await scene.arrive(letter("a@x"))

    assert changes(await explained(scene))[0].startswith("deal:70, imported without a time of creation")


async def test_neither_a_deleted_item_nor_a_converted_lead_can_be_opened(scene: Scene) -> None:
    """L10, L11"""
    await scene.know(
        ORGANIZATION, PERSON, LEAD, DEAL | {"status": "lost"}, OTHER_DEAL | {"deleted": True},
        LEAD | {"kind": "deal", "id": "63", "status": "won", "converted_from": "abc-1"},
    )  # fmt: skip
    await scene.arrive(letter("a@x"))

    opened = [each for each in changes(await explained(scene)) if each.endswith("is open again")]

    assert opened == ["deal:61 is open again", "deal:63 is open again"]


async def test_hands_are_named_by_their_decisions(scene: Scene) -> None:
    await scene.know(*CLIENT, {"kind": "person", "id": "4", "title": "Dora"})
    await scene.arrive(letter("a@x"))
    (linked,) = await changing.link(scene.house, "anna", [1], ItemRef.parse("person:4"))
    (unlinked,) = await changing.unlink(scene.house, "anna", [1], ItemRef.parse("person:3"))

    found = await explained(scene)

    why = {str(each.ref): (each.linked, each.why, found.acts.get(each.ref)) for each in found.contacts}
    assert why["person:4"] == (True, Why.BY_HAND, linked["decision"])
    assert why["person:3"] == (False, Why.TOMBSTONE, unlinked["decision"])


async def test_what_a_hand_has_settled_has_no_other_answer_today(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    await changing.unlink(scene.house, "anna", [1], ItemRef.parse("deal:61"))

    found = await explained(scene)

    assert (found.today, changes(found)) == (None, ["a link by hand"])


async def test_mail_to_an_item_s_address_is_proposed_where_it_reaches_the_thread(scene: Scene) -> None:
    await scene.deliver(received(letter("a@x", sender="anna@ourco.example", to=DORA), UNIVERSAL))

    assert "mail of this thread to an item's Smart Bcc address" in changes(await explained(scene))


async def test_a_thread_that_is_not_there_or_not_decided_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="there is no thread 9"):
        await explained(scene, 9)


async def test_erased_facts_leave_what_is_there_today(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    async with scene.database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE decision SET facts = NULL")

    found = await explained(scene)

    assert (found.case, found.rows) == (None, ())
    assert [str(each.ref) for each in found.contacts] == ["person:3", "organization:7"]


# --- Mail that is not here ------------------------------------------------------------------------------------------


async def test_mail_that_would_open_a_thread(either: Scene) -> None:
    await either.know(*CLIENT)

    found = await tried(either, letter("a@x"))

    (thread,) = found.threads
    assert (found.new, thread.decision.line["slot"]) == (True, "deal:61")
    assert found.opened == {thread.thread.id}
    assert either.told == []


async def test_mail_that_would_join_one(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))

    found = await tried(scene, letter("b@x", refers=["a@x"], date=hours(1)))

    (thread,) = found.threads
    assert (thread.thread.id, thread.thread.message_count, found.opened) == (1, 2, frozenset())
    assert thread.decision.line["reason"] == "ambiguous_several_open_items"


async def test_it_is_what_the_import_comes_to(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    raw = letter("b@x", refers=["a@x"], sender=STRANGER, date=hours(1))
    (thread,) = (await tried(scene, raw)).threads

    await scene.bring([raw])

    (line,) = scene.told[-1:]
    passing = ("timestamp", "v", "event", "level", "decision")
    assert {k: v for k, v in line.items() if k not in passing} == {
        k: v for k, v in thread.decision.line.items() if k not in passing
    }


async def test_mail_that_is_here_already(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.bring([letter("a@x")])

    found = await tried(scene, letter("a@x"))

    assert (found.new, [each.thread.id for each in found.threads]) == (False, [1])


async def test_mail_to_items_addresses_lies_in_a_thread_for_each(scene: Scene) -> None:
    """L16 (c)"""
    await scene.know(*CLIENT, OTHER_DEAL)
    door = Door(recipients=(bcc("deal61"), bcc("deal62")), sender="anna@ourco.example")

    found = await tried(scene, letter("a@x", sender="anna@ourco.example", to=DORA), door)

    assert [each.decision.line["slot"] for each in found.threads] == ["deal:61", "deal:62"]
    assert len(found.opened) == 2


async def test_smart_bcc_mail_that_is_here_already(scene: Scene) -> None:
    raw = letter("a@x", sender="anna@ourco.example", to=DORA)
    await scene.deliver(received(raw, UNIVERSAL))

    found = await tried(scene, raw, Door(recipients=(UNIVERSAL,), sender="anna@ourco.example"))

    assert (found.new, [each.thread.channel for each in found.threads]) == (False, ["smart_bcc"])


async def test_mail_that_would_go_to_quarantine(scene: Scene) -> None:
    door = Door(recipients=(UNIVERSAL,), sender=STRANGER)

    found = await tried(scene, letter("a@x", sender=STRANGER), door)

    assert (found.threads, found.held and found.held.reason) == ((), "smart_bcc_unknown_sender")


async def test_mail_that_lies_in_quarantine_already(scene: Scene) -> None:
    door = Door(recipients=(UNIVERSAL,), sender=STRANGER)
    raws = [letter(f"{n}@x", sender=STRANGER) for n in range(2)]
    await scene.deliver(*(received(raw, UNIVERSAL, sender=STRANGER) for raw in raws))

    found = await tried(scene, raws[0], door)

    assert found.held is not None
    assert (found.new, found.held.message_id, found.held.reason) == (False, "<0@x>", "smart_bcc_unknown_sender")


@pytest.mark.parametrize(
    ("policy", "filtered", "because"),
    [
        ({"block": ["@client.example"]}, Filtered.BLOCKED, ("@client.example",)),
        ({"bulk": "ignore"}, Filtered.BULK, ("Precedence: bulk",)),
    ],
)
async def test_mail_that_would_be_left_out(
    scene: Scene, policy: dict[str, object], filtered: Filtered, because: tuple[str, ...]
) -> None:
    scene.house.office = office_with(policy=policy)
    raw = b"Precedence: bulk\r\n" + letter("a@x")

    found = await tried(scene, raw)

    assert found == Tried(new=True, filtered=filtered, because=because)


async def test_mail_that_was_stored_before_it_was_blocked_is_here(scene: Scene) -> None:
    await scene.bring([letter("a@x")])
    scene.house.office = office_with(policy={"block": ["@client.example"]})

    found = await tried(scene, letter("a@x"))

    assert (found.filtered, [each.thread.id for each in found.threads]) == (None, [1])


async def test_what_emptied_the_slot_is_told_by_row_1(scene: Scene) -> None:
    await scene.know(*CLIENT, {"kind": "person", "id": "4"})
    await scene.arrive(letter("a@x"))
    await changing.unlink(scene.house, "anna", [1], ItemRef.parse("deal:61"))
    assert (await explained(scene)).rows[0].because == "a hand had just unlinked deal:61"

    await changing.link(scene.house, "anna", [1], ItemRef.parse("person:4"))

    assert (await explained(scene)).rows[0].because == "a hand had emptied the slot"


async def test_a_first_sync_that_asks_again_says_so(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x", date=hours(1)))
    await scene.synced.file(batch(fetched(2, letter("b@x", refers=["a@x"])), first_sync=True))

    found = await explained(scene)

    assert found.decision.line["slot_before"] == "deal:61"
    assert [row.because for row in found.rows[:2]] == ["deal:61, but not by hand", "no hand emptied the slot"]


async def test_a_conflict_says_that_another_item_was_named(scene: Scene) -> None:
    """L16"""
    await scene.know(*CLIENT, OTHER_DEAL)
    raw = letter("a@x", sender="anna@ourco.example", to="carla@client.example")
    await scene.deliver(received(raw, bcc("deal61")))
    await scene.deliver(received(raw, bcc("deal62")))

    row = (await explained(scene)).rows[2]

    assert (row.answer, row.because) == (
        None, "<a@x> arrived at the address of another item, but the slot holds deal:61 (smart_bcc_conflict)",
    )  # fmt: skip


async def test_while_an_import_is_undecided_nothing_is_tried(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    async with scene.database.transaction() as connection:
        await connection.exec_driver_sql("UPDATE message SET undecided = 1")

    with pytest.raises(Refused, match="an import is under way"):
        await explain_mail(scene.database, office_with(), IN_ANNAS, letter("b@x"), None)
