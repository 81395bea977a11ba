"""Row 6 looks at every mailbox in which a thread's messages lie, whichever was read first."""

import pytest

from ingest.scene import (
    CLIENT,
    DEAL,
    DORA,
    OTHER_DEAL,
    Scene,
    batch,
    fetched,
    hours,
    letter,
    office_with,
    people,
    slot,
)
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.ingest.office import Office
from maillinkd.store import schema

TWO_BOXES = {"anna": {"auto_link": False}, "anna2": {"auto_link": True}}
FIRST = letter("a@x")
REPLY = letter("b@x", refers=["a@x"], date=hours(1))


def office(**switched: object) -> Office:
    return office_with(mailboxes=TWO_BOXES, **switched)  # type: ignore[arg-type]


async def test_a_message_that_turns_up_where_linking_is_on_has_its_thread_decided(either: Scene) -> None:
    either.house.office = office()
    await either.know(*CLIENT)
    await either.arrive(FIRST, REPLY)
    assert ((await either.thread()).reason, people(await either.thread())) == ("auto_link_off", [])

    await either.arrive(FIRST, mailbox="anna2")

    thread = await either.thread()
    assert (slot(thread), people(thread)) == ("deal:61", ["person:3", "organization:7"])
    line = either.told[-1]
    assert (line["mailbox"], line["message_id"], line["trigger"], line["outcome"]) == (
        "anna2", "<a@x>", "message", "linked",
    )  # fmt: skip


@pytest.mark.parametrize("first_sync", [False, True])
async def test_which_mailbox_was_read_first_does_not_matter(scene: Scene, first_sync: bool) -> None:
    """L26: the slot was filled by the first message, before a second person with a deal took part."""
    scene.house.office = office()
    await scene.know(*CLIENT, {"kind": "person", "id": "4", "title": "Dora", "addresses": ["dora@client.example"]})
    await scene.know(OTHER_DEAL | {"person": "4"})
    mails = (FIRST, letter("b@x", sender="dora@client.example", refers=["a@x"], date=hours(1)))
    for mailbox in ("anna", "anna2"):
        messages = [fetched(uid, raw) for uid, raw in enumerate(mails, start=1)]
        await scene.synced.file(batch(*messages, mailbox=mailbox, first_sync=first_sync))

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == ("deal:61", "kept_existing_link")
    assert ("provisional" in scene.told[-1]["flags"]) == first_sync


async def test_a_second_mailbox_in_which_it_is_off_changes_nothing(scene: Scene) -> None:
    scene.house.office = office_with(mailboxes={"anna": {"auto_link": False}, "anna2": {"auto_link": False}})
    await scene.know(*CLIENT)
    await scene.arrive(FIRST)
    before = await scene.count("decision")

    await scene.arrive(FIRST, mailbox="anna2")

    assert (await scene.count("decision"), (await scene.thread()).reason) == (before, "auto_link_off")


async def test_a_mailbox_more_where_linking_is_on_already_changes_nothing(scene: Scene) -> None:
    scene.house.office = office()
    await scene.know(*CLIENT)
    await scene.arrive(FIRST, mailbox="anna2")
    await scene.arrive(FIRST)
    before = await scene.count("decision")

    await scene.arrive(FIRST, mailbox="anna2", folder="Sent")

    assert await scene.count("decision") == before


async def test_a_thread_that_gets_a_new_message_too_is_decided_once(scene: Scene) -> None:
    scene.house.office = office()
    await scene.know(*CLIENT)
    await scene.arrive(FIRST)
    before = await scene.count("decision")

    await scene.arrive(FIRST, REPLY, mailbox="anna2")

    assert (await scene.count("decision") - before, slot(await scene.thread())) == (1, "deal:61")


async def test_an_import_too(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("maillinkd.ingest.house.CHUNK", 1)
    scene.house.office = office()
    await scene.know(*CLIENT)
    await scene.bring([FIRST, letter("other@x", date=hours(5))])

    await scene.bring([FIRST, REPLY, letter("third@x", date=hours(6))], mailbox="anna2")

    thread = await scene.thread_of("a@x")
    assert (slot(thread), (await scene.thread_of("other@x")).reason) == ("deal:61", "auto_link_off")


async def test_what_a_hand_had_settled_stays(scene: Scene) -> None:
    """Rows 1 and 5; only persons and organizations are linked now. Old messages get no mark."""
    policy = {"closed_item_threads": "exclude_later"}
    scene.house.office = office(policy=policy)
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(FIRST)
    await changes.link(scene.house, "anna", [1], ItemRef.parse("deal:61"))
    await scene.know(DEAL | {"status": "won"})

    await scene.arrive(FIRST, mailbox="anna2")

    thread = await scene.thread()
    assert (slot(thread), thread.reason, people(thread)) == (
        "deal:61", "manual_link_kept", ["person:3", "organization:7"],
    )  # fmt: skip
    assert [each.flags for each in await scene.messages()] == [()]


DORA_TOO = (
    {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]},
    OTHER_DEAL | {"person": "4"},
)
FROM_DORA = letter("b@x", sender=DORA, refers=["a@x"], date=hours(1))


async def test_what_turns_up_is_asked_about_from_the_first_message_on_also_when_more_comes_with_it(
    scene: Scene,
) -> None:
    """L26: Dora's deal was none of the thread's when its first message came."""
    scene.house.office = office()
    await scene.know(*CLIENT, *DORA_TOO)
    await scene.arrive(FIRST)
    before = await scene.count("decision")

    await scene.arrive(FIRST, FROM_DORA, mailbox="anna2")

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == ("deal:61", "kept_existing_link")
    assert await scene.count("decision") == before + 1


@pytest.mark.parametrize("size", [2, 100])
async def test_an_import_asks_from_the_first_message_on_whatever_its_chunks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("maillinkd.ingest.house.CHUNK", size)
    monkeypatch.setattr("maillinkd.ingest.house.SHARED_CHUNK", size)
    scene.house.office = office()
    await scene.know(*CLIENT, *DORA_TOO)
    await scene.arrive(FIRST)

    await scene.bring([FIRST, FROM_DORA, letter("other@x", date=hours(9))], mailbox="anna2")

    thread = await scene.thread_of("a@x")
    assert (slot(thread), thread.reason) == ("deal:61", "kept_existing_link")
    assert await scene.count("message", schema.message.c.undecided) == 0


@pytest.mark.parametrize("size", [1, 100])
async def test_an_import_in_which_the_reply_stands_first(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Row 6, L26: also where it is filed before the message that turns up."""
    monkeypatch.setattr("maillinkd.ingest.house.CHUNK", size)
    monkeypatch.setattr("maillinkd.ingest.house.SHARED_CHUNK", size)
    scene.house.office = office_with(mailboxes={"anna": {"auto_link": False}})
    dora = {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]}
    await scene.know(*CLIENT, dora, OTHER_DEAL | {"person": "4"})
    first, reply = letter("a@x"), letter("b@x", sender=DORA, refers=["a@x"], date=hours(1))
    await scene.arrive(first)

    await scene.bring([reply, first, letter("other@x", date=hours(9))], mailbox="anna2")

    thread = await scene.thread_of("a@x")
    assert (slot(thread), thread.reason) == ("deal:61", "kept_existing_link")
