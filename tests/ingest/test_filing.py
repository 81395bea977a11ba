"""Mail finds its thread, once, whatever the order, and Smart Bcc mail its item (threading.md, linking.md)."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingest.scene import (
    ANNA,
    BEN,
    CARLA,
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    OTHER_DEAL,
    STRANGER,
    UNIVERSAL,
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
    standing,
)
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.mail.delivery import FolderCursor
from maillinkd.store import schema
from maillinkd.store.database import open_database

# -- one message, one place


async def test_a_batch_is_filed_with_message_place_thread_link_decision_and_cursor(either: Scene) -> None:
    await either.know(*CLIENT)

    await either.synced.file(batch(fetched(7, letter("a@x"))))

    thread = await either.thread()
    (message,) = await either.messages(thread)
    assert (thread.message_ids, slot(thread), thread.reason) == (("<a@x>",), "deal:61", "linked_single_open_item")
    assert people(thread) == ["person:3", "organization:7"]
    assert [(each.mailbox, each.folder, each.uidvalidity, each.uid) for each in message.places] == [
        ("anna", "INBOX", 1, 7)
    ]
    assert await either.cursor() == FolderCursor(1, 7, 0, None, 0)
    assert [(line["decision"], line["slot"], line["mailbox"]) for line in either.told] == [
        (thread.decision, "deal:61", "anna")
    ]


async def test_the_same_batch_twice_changes_nothing(either: Scene) -> None:
    """A crash replays a batch, and unique keys make the replay harmless."""
    await either.know(*CLIENT)
    again = batch(fetched(1, letter("a@x")), fetched(2, letter("b@x", refers=["a@x"], date=hours(1))))
    await either.synced.file(again)
    before, told = await either.counts(), len(either.told)

    await either.synced.file(again)

    assert await either.counts() == before
    assert len(either.told) == told


async def test_a_message_in_two_folders_is_stored_once_and_lies_in_both(either: Scene) -> None:
    """T11, example 6."""
    await either.arrive(letter("a@x"), folder="INBOX")

    await either.arrive(letter("a@x"), folder="Sent", first_uid=9)

    (message,) = await either.messages()
    assert [(each.folder, each.uid) for each in message.places] == [("INBOX", 1), ("Sent", 9)]
    assert len(either.told) == 1


async def test_a_message_twice_in_one_batch_is_stored_once_and_lies_in_both_places(scene: Scene) -> None:
    await scene.arrive(letter("a@x"), letter("a@x"))

    (message,) = await scene.messages()
    assert [each.uid for each in message.places] == [1, 2]


@pytest.mark.parametrize(
    "other",
    [
        letter("a@x", sender=DORA),
        letter("a@x", subject="Old cellar"),
        letter("a@x", date=hours(5)),
    ],
    ids=["another sender", "another subject", "another date"],
)
async def test_equal_id_and_other_content_are_two_messages_of_one_thread(scene: Scene, other: bytes) -> None:
    await scene.arrive(letter("a@x"), other)

    thread = await scene.thread()
    assert thread.message_count == 2
    assert "duplicate_message_id" in thread.flags


async def test_a_prefix_that_a_mail_system_adds_makes_no_other_message(scene: Scene) -> None:
    """T11 compares base subjects."""
    await scene.arrive(letter("a@x", subject="New roof"), letter("a@x", subject="Re: New roof"))

    thread = await scene.thread()
    assert (thread.message_count, thread.flags) == (1, ())


async def test_two_owners_have_a_thread_each(either: Scene) -> None:
    await either.arrive(letter("a@x", to=[ANNA, BEN]), mailbox="anna")
    await either.arrive(letter("a@x", to=[ANNA, BEN]), mailbox="ben")

    assert [(thread.owner, thread.message_ids) for thread in await either.threads()] == [
        ("anna", ("<a@x>",)),
        ("ben", ("<a@x>",)),
    ]


async def test_two_mailboxes_of_one_owner_share_their_threads(scene: Scene) -> None:
    await scene.arrive(letter("a@x"), mailbox="anna")
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), mailbox="anna2")

    assert (await scene.thread()).message_ids == ("<a@x>", "<b@x>")


async def test_scopes_share_bytes_but_no_threads(scene: Scene) -> None:
    """A whole mail that both owners have is stored once; a reference does not reach into another scope."""
    raw = letter("a@x")
    await scene.synced.file(batch(fetched(1, raw, full=True), mailbox="anna"))
    await scene.synced.file(batch(fetched(1, raw, full=True), mailbox="ben"))
    await scene.arrive(letter("b@x", refers=["a@x"]), mailbox="ben", first_uid=2)

    assert [thread.message_ids for thread in await scene.threads()] == [("<a@x>",), ("<a@x>", "<b@x>")]
    assert await scene.count("raw_message") == 1


async def test_what_the_server_no_longer_has_is_kept_and_marked(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))

    await scene.synced.file(batch(gone=(1, 2)))

    (message,) = await scene.messages()
    assert [(place.uid, place.gone) for place in message.places] == [(1, True)]
    assert await scene.count("occurrence", schema.occurrence.c.disposition == "gone") == 2


async def test_a_changed_uidvalidity_doubles_no_message(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))
    before = await scene.thread()

    await scene.synced.file(batch(fetched(5, letter("a@x")), uidvalidity=2))

    (message,) = await scene.messages()
    assert [(place.uidvalidity, place.uid) for place in message.places] == [(1, 1), (2, 5)]
    assert await scene.thread() == before


# -- mail as it really comes

STRANGE = {
    "an id that is no UTF-8": letter("a\udce9b\udcff@x"),
    "a reference that is no UTF-8": letter("b@x", refers=["q\udce9@x"]),
    "NUL in the subject": letter("c@x", subject="New\0 roof"),
    "NUL in an address": letter("d@x", sender="Carla\0 <ca\0rla@client.example>"),
    "a name that is no UTF-8": letter("e@x", sender="Fran\udce9 <fr\udce9d@client.example>"),
    "a half of a surrogate pair": letter("f@x", subject="=?utf-16?B?2AA=?="),
    "no From": letter("g@x", sender=None),
    "no Date": letter("h@x", date=None),
    "no Message-ID": letter(None),
    "no recipient": letter("i@x", to=[]),
    "no header": b"\r\nOnly text.\r\n",
    "bytes that are no mail": bytes(range(256)),
}


@pytest.mark.parametrize("name", STRANGE)
async def test_strange_mail_is_stored_like_any_other(either: Scene, name: str) -> None:
    """One transaction each way: by IMAP, and by Smart Bcc where it may end in quarantine for want of an author."""
    raw = STRANGE[name]

    await either.arrive(raw)
    await either.deliver(received(raw))

    assert [thread.message_count for thread in await either.threads()] == [1]
    assert [held.reason for held in await either.held()] == ["smart_bcc_unknown_sender"]
    assert len(either.told) == 1


async def test_bytes_in_ids_that_are_no_utf8_survive(either: Scene) -> None:
    """T2: two ids that differ in such bytes alone are two, also after they were stored."""
    await either.arrive(letter("b@x", refers=["q\udce9@x"], date=hours(1)))
    assert "start_unknown" in (await either.thread()).flags

    await either.arrive(letter("q\udcea@x"), first_uid=2)
    await either.arrive(letter("c@x", refers=["b@x"], date=hours(2)), first_uid=3)
    await either.arrive(letter("q\udce9@x"), first_uid=4)
    await either.arrive(letter("d@x", refers=["b@x"], date=hours(3)), first_uid=5)

    assert sorted((thread.message_count, thread.flags) for thread in await either.threads()) == [(1, ()), (4, ())]


async def test_a_mail_to_three_thousand_is_filed(either: Scene) -> None:
    await either.know(*CLIENT)

    await either.arrive(letter("a@x", to=[ANNA, *(f"p{n}@many.example" for n in range(3_000))]))

    thread = await either.thread()
    assert (slot(thread), len(thread.participants)) == ("deal:61", 1_001)


async def test_mail_without_date_counts_from_when_it_was_received(scene: Scene) -> None:
    await scene.synced.file(batch(fetched(1, letter("a@x", date=None), hours(3))))

    assert (await scene.thread()).started_at == hours(3)


async def test_mail_without_an_id_meets_itself_in_the_other_folder(scene: Scene) -> None:
    """T5."""
    await scene.arrive(letter(None), folder="INBOX")
    await scene.arrive(letter(None), folder="Sent")

    (message,) = await scene.messages()
    assert (message.made_id, len(message.places)) == (True, 2)


# -- the order in which mail comes


async def test_a_late_message_joins_two_threads_and_the_older_number_survives(either: Scene) -> None:
    """T10, L21; the other number keeps working."""
    await either.arrive(letter("a@x"), letter("b@x", date=hours(1)))
    older, younger = await either.threads()

    await either.arrive(letter("c@x", refers=["a@x", "b@x"], date=hours(2)), first_uid=3)

    thread = await either.thread()
    assert (thread.id, thread.message_ids) == (older.id, ("<a@x>", "<b@x>", "<c@x>"))
    async with either.database.reading() as connection:
        from maillinkd.store import links

        assert await links.label_of(connection, younger.id) == thread.label
    assert either.told[-1]["trigger"] == "merge"


async def test_an_original_that_comes_after_its_replies_finds_their_thread(scene: Scene) -> None:
    """threading.md, example 1."""
    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)))
    await scene.arrive(letter("c@x", refers=["a@x"], date=hours(2)), first_uid=2)
    assert "start_unknown" in (await scene.thread()).flags

    await scene.arrive(letter("a@x"), first_uid=3)

    thread = await scene.thread()
    assert (thread.message_ids, thread.flags) == (("<a@x>", "<b@x>", "<c@x>"), ())


ITEMS = (
    *CLIENT,
    {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]},
    {"kind": "deal", "id": "70", "title": "Late", "person": "4", "added_at": hours(2.5).isoformat()},
)
POOL = (
    letter("a@x"),
    letter("b@x", sender=ANNA, to=[CARLA, DORA], refers=["a@x"], date=hours(1)),
    letter("c@x", sender=DORA, refers=["b@x"], date=hours(2)),
    letter("d@x", sender=STRANGER, refers=["a@x", "c@x"], date=hours(3)),
    letter("e@x", sender=DORA, date=hours(4)),
    letter("f@x", sender=DORA, refers=["e@x", "lost@x"], date=hours(5)),
    letter("g@x", sender=CARLA, cc=[DORA], refers=["lost@x"], date=hours(0.5)),
)
"""Two threads that hang together by a mail that nobody has, a stranger, a deal that is added in between."""


@st.composite
def first_syncs(draw: st.DrawFn) -> list[tuple[str, list[int]]]:
    """Which folder's chunks come in which order; every mail of the pool is in one of them, some in two."""
    order = draw(st.permutations(range(len(POOL))))
    order += draw(st.lists(st.integers(0, len(POOL) - 1), max_size=2))
    chunks = []
    while order:
        size = draw(st.integers(1, len(order)))
        chunks.append((draw(st.sampled_from(["INBOX", "Sent"])), order[:size]))
        order = order[size:]
    return chunks


@given(first_syncs())
@settings(max_examples=25)
def test_the_outcome_of_a_first_sync_does_not_depend_on_the_order_of_its_chunks(
    empty_file: Path, chunks: list[tuple[str, list[int]]]
) -> None:
    """L26: it is that of one import of the same mail."""
    expected = asyncio.run(_standings_after_an_import(empty_file, sorted(POOL, key=lambda raw: raw)))

    assert asyncio.run(_standings_after_chunks(empty_file, chunks)) == expected


async def _standings_after_an_import(empty_file: Path, mails: Sequence[bytes]) -> list[object]:
    with tempfile.TemporaryDirectory() as directory:
        scene = _scene_in(directory, empty_file)
        await scene.know(*ITEMS)
        await scene.bring(mails)
        found = [standing(thread) for thread in await scene.threads()]
        await scene.database.close()
        return sorted(found)


async def _standings_after_chunks(empty_file: Path, chunks: list[tuple[str, list[int]]]) -> list[object]:
    with tempfile.TemporaryDirectory() as directory:
        scene = _scene_in(directory, empty_file)
        await scene.know(*ITEMS)
        uid = 0
        for folder, numbers in chunks:
            messages = [fetched(uid + n, POOL[number]) for n, number in enumerate(numbers, start=1)]
            uid += len(numbers)
            await scene.synced.file(batch(*messages, folder=folder, first_sync=True, bottom=1))
        found = [standing(thread) for thread in await scene.threads()]
        assert all("provisional" in line["flags"] for line in scene.told)
        await scene.database.close()
        return sorted(found)


def _scene_in(directory: str, empty_file: Path) -> Scene:
    shutil.copy(empty_file, f"{directory}/mail.db")
    return Scene.on(open_database(f"sqlite+aiosqlite:///{directory}/mail.db"))


async def test_a_first_sync_keeps_what_a_hand_has_linked(scene: Scene) -> None:
    """L26: an automatic slot is empty again for each chunk; one that a hand filled stays."""
    await scene.know(*CLIENT, OTHER_DEAL)
    newer = fetched(2, letter("b@x", refers=["a@x"], date=hours(1)))
    await scene.synced.file(batch(newer, first_sync=True, bottom=2))
    await changes.link(scene.house, "anna", [(await scene.thread()).id], ItemRef.parse("deal:62"))

    await scene.synced.file(batch(fetched(1, letter("a@x")), first_sync=True))

    thread = await scene.thread()
    assert (slot(thread), thread.reason) == ("deal:62", "manual_link_kept")


ONE_OF_TWINS = letter("t@x", sender=STRANGER, to=ANNA, cc=[CARLA], refers=["r@x"], subject="one")
OTHER_OF_TWINS = letter("t@x", sender=ANNA, to=DORA, refers=["r@x"], subject="two")


@pytest.mark.parametrize("mails", [(ONE_OF_TWINS, OTHER_OF_TWINS), (OTHER_OF_TWINS, ONE_OF_TWINS)])
async def test_two_messages_of_one_id_and_time_are_in_the_same_order_whatever_came_first(
    either: Scene, mails: Sequence[bytes]
) -> None:
    """L26, L22: the first message of a thread is never a stranger's."""
    await either.know(*CLIENT)
    for uid, raw in enumerate(mails, start=1):
        await either.synced.file(batch(fetched(uid, raw), first_sync=True))

    thread = await either.thread()
    assert [message.subject for message in await either.messages(thread)] == ["one", "two"]
    assert (slot(thread), people(thread)) == ("deal:61", ["person:3", "organization:7"])
    assert thread.flags == ("duplicate_message_id", "start_unknown")


# -- Smart Bcc


async def test_mail_to_an_items_address_is_linked_to_it(either: Scene) -> None:
    """Row 3, even a closed one."""
    await either.know(*CLIENT, OTHER_DEAL | {"status": "lost"})

    await either.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal62")))

    thread = await either.thread()
    assert (thread.owner, thread.channel, slot(thread), thread.reason) == (
        "anna", "smart_bcc", "deal:62", "smart_bcc_explicit",
    )  # fmt: skip


async def test_a_converted_lead_means_its_deal(scene: Scene) -> None:
    await scene.know(*CLIENT, LEAD, DEAL | {"converted_from": "ABC-1"})

    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("leadabc-1")))

    assert slot(await scene.thread()) == "deal:61"


@pytest.mark.parametrize("item", ["deal99", "deal62"], ids=["unknown", "deleted"])
async def test_an_item_that_is_not_there_leaves_the_ordinary_rules(scene: Scene, item: str) -> None:
    """L13."""
    await scene.know(*CLIENT, OTHER_DEAL | {"deleted": True})

    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc(item)))

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.flags) == (
        "deal:61", "linked_single_open_item", ("smart_bcc_unknown_item",),
    )  # fmt: skip
    assert scene.told[-1]["flags"] == ["smart_bcc_unknown_item"]


async def test_it_never_joins_the_synced_thread(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))

    await scene.deliver(received(letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1))))

    assert [(thread.channel, thread.message_ids) for thread in await scene.threads()] == [
        ("imap", ("<a@x>",)),
        ("smart_bcc", ("<b@x>",)),
    ]


async def test_mail_that_names_another_item_than_its_thread_has_opens_one_of_its_own(either: Scene) -> None:
    """L16 (a)."""
    await either.know(*CLIENT, OTHER_DEAL)
    await either.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal61")))

    reply = letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1))
    await either.deliver(received(reply, bcc("deal62")))

    assert [(thread.message_ids, slot(thread), thread.flags) for thread in await either.threads()] == [
        (("<a@x>",), "deal:61", ()),
        (("<b@x>",), "deal:62", ("smart_bcc_duplicate",)),
    ]


async def test_mail_that_names_the_item_of_its_thread_joins_it(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal61")))
    await scene.deliver(received(letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1)), bcc("deal61")))

    assert (await scene.thread()).message_ids == ("<a@x>", "<b@x>")


FORWARD_TEXT = f"""See below.

-----Original Message-----
From: Carla <{CARLA}>
Sent: today
Subject: Roof
"""


async def test_a_forward_of_what_is_stored_opens_a_thread_of_its_own(scene: Scene) -> None:
    """L16 (b): the way to link the same mail to a second deal, when two forwards have no item's address."""
    await scene.know(*CLIENT)
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal61")))

    forward = letter("f@x", sender=ANNA, to=UNIVERSAL, refers=["a@x"], date=hours(1), text=FORWARD_TEXT)
    await scene.deliver(received(forward))

    original, detached = await scene.threads()
    assert (original.message_ids, detached.message_ids) == (("<a@x>",), ("<f@x>",))
    assert (slot(detached), people(detached)) == ("deal:61", ["person:3", "organization:7"])
    assert detached.flags == ("smart_bcc_duplicate",)
    (message,) = await scene.messages(detached)
    assert message.evidence == {CARLA: "inline"}


async def test_a_forwarded_reply_that_is_not_stored_yet_joins_its_thread(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal61")))

    forward = letter("f@x", sender=ANNA, to=UNIVERSAL, refers=["a@x", "reply@x"], date=hours(1), text=FORWARD_TEXT)
    await scene.deliver(received(forward))

    assert (await scene.thread()).message_ids == ("<a@x>", "<f@x>")


async def test_a_second_forward_of_the_same_reply_opens_a_thread_of_its_own(scene: Scene) -> None:
    """L16 (b): the last id is also the last of another forward that is stored there."""
    await scene.know(*CLIENT)
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal61")))
    for n in (1, 2):
        forward = letter(
            f"f{n}@x", sender=ANNA, to=UNIVERSAL, refers=["a@x", "reply@x"], date=hours(n), text=FORWARD_TEXT
        )
        await scene.deliver(received(forward))

    assert [thread.message_ids for thread in await scene.threads()] == [("<a@x>", "<f1@x>"), ("<f2@x>",)]


async def test_one_mail_to_several_items_is_a_thread_for_each(either: Scene) -> None:
    """L16 (c): the first in order of RCPT is the message, each further one a detached copy."""
    await either.know(*CLIENT, OTHER_DEAL)

    raw = letter("a@x", sender=ANNA, to=CARLA)
    await either.deliver(received(raw, bcc("deal62"), UNIVERSAL, bcc("deal61"), bcc("DEAL61")))

    found = await either.threads()
    assert [(thread.message_ids, slot(thread), thread.flags) for thread in found] == [
        (("<a@x>",), "deal:62", ()),
        (("<a@x>",), "deal:61", ("smart_bcc_duplicate",)),
    ]


async def test_an_answer_follows_the_message_and_not_its_copies(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal62"), bcc("deal61")))

    await scene.deliver(received(letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1))))

    assert [(slot(thread), thread.message_count) for thread in await scene.threads()] == [
        ("deal:62", 2),
        ("deal:61", 1),
    ]


async def test_a_stored_mail_delivered_again_to_an_items_address_fills_an_empty_slot(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await scene.deliver(received(raw))
    assert (await scene.thread()).reason == "ambiguous_several_open_items"

    await scene.deliver(received(raw, bcc("deal62")))

    thread = await scene.thread()
    assert (slot(thread), thread.reason, thread.message_count, thread.flags) == (
        "deal:62", "smart_bcc_explicit", 1, (),
    )  # fmt: skip


async def test_a_stored_mail_delivered_again_to_another_items_address_is_a_conflict(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await scene.deliver(received(raw, bcc("deal61")))

    await scene.deliver(received(raw, bcc("deal62")))

    thread = await scene.thread()
    assert (slot(thread), thread.message_count, thread.flags) == ("deal:61", 1, ("smart_bcc_conflict",))
    assert scene.told[-1]["flags"] == ["smart_bcc_conflict"]


async def test_an_original_of_which_a_thread_has_heard_joins_it_whatever_it_names(scene: Scene) -> None:
    """T17: the slot stays, flag `smart_bcc_conflict`."""
    await scene.know(*CLIENT, OTHER_DEAL)
    reply = letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1))
    await scene.deliver(received(reply, bcc("deal61")))

    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal62")))

    thread = await scene.thread()
    assert (slot(thread), thread.message_ids, thread.flags) == (
        "deal:61", ("<a@x>", "<b@x>"), ("smart_bcc_conflict",),
    )  # fmt: skip


RECIPIENTS = [(UNIVERSAL,), (bcc("deal61"),), (bcc("deal61"), bcc("deal62")), (bcc("deal99"),)]


@pytest.mark.parametrize("recipients", RECIPIENTS)
async def test_a_retried_delivery_is_recognised(either: Scene, recipients: tuple[str, ...]) -> None:
    """RFC 1047: the 250 was lost, the client sends again."""
    await either.know(*CLIENT, OTHER_DEAL)
    delivery = received(letter("a@x", sender=ANNA, to=CARLA), *recipients)
    await either.deliver(delivery)
    before = await either.counts(), len(either.told)

    await either.deliver(delivery, delivery)

    assert (await either.counts(), len(either.told)) == before


async def test_a_retry_in_the_same_batch_is_recognised(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await scene.deliver(received(raw, bcc("deal61")), received(raw, bcc("deal61"), at=hours(1)))

    assert ((await scene.thread()).message_count, await scene.count("inbound")) == (1, 0)


AGAIN = {
    "as it was": (bcc("deal61"), bcc("deal62"), bcc("leadabc-1")),
    "in another order": (bcc("leadabc-1"), bcc("deal62"), bcc("deal61")),
    "a further one alone": (bcc("deal62"),),
    "the lead alone": (bcc("leadabc-1"),),
}


@pytest.mark.parametrize("converted", [False, True], ids=["lead", "deal"])
@pytest.mark.parametrize("again", AGAIN)
async def test_a_mail_to_several_items_delivered_again_to_some_of_them_changes_nothing(
    scene: Scene, again: str, converted: bool
) -> None:
    """L16 (c), RFC 1047: senders retry for the recipients that they have had no reply for, in any order; also when
    the lead has become a deal meanwhile (L10)."""
    await scene.know(*CLIENT, OTHER_DEAL, LEAD)
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await scene.deliver(received(raw, *AGAIN["as it was"]))
    if converted:
        await scene.know({"kind": "deal", "id": "70", "person": "3", "converted_from": "abc-1"})
    third = "deal:70" if converted else "lead:abc-1"
    assert sorted(str(slot(thread)) for thread in await scene.threads()) == sorted(["deal:61", "deal:62", third])
    before = await scene.counts(), len(scene.told)

    await scene.deliver(received(raw, *AGAIN[again]), received(raw, *AGAIN[again], at=hours(1)))

    assert (await scene.counts(), len(scene.told)) == before


async def test_a_conflict_delivered_again_is_no_other_one(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await scene.deliver(received(raw, bcc("deal61")))
    await scene.deliver(received(raw, bcc("deal62")))
    assert (await scene.thread()).flags == ("smart_bcc_conflict",)
    before = await scene.counts(), len(scene.told)

    await scene.deliver(received(raw, bcc("deal62")), received(raw, bcc("deal62"), at=hours(1)))

    assert (await scene.counts(), len(scene.told)) == before


@pytest.mark.parametrize("item", ["deal99", "deal62"], ids=["unknown", "deleted"])
async def test_a_stored_mail_delivered_again_to_an_item_that_is_not_there_says_so_once(
    either: Scene, item: str
) -> None:
    """L13."""
    await either.know(*CLIENT, OTHER_DEAL | {"deleted": True})
    raw = letter("a@x", sender=ANNA, to=CARLA)
    await either.deliver(received(raw))

    await either.deliver(received(raw, bcc(item)))
    thread = await either.thread()
    assert (slot(thread), thread.reason, thread.flags) == (
        "deal:61", "kept_existing_link", ("smart_bcc_unknown_item",),
    )  # fmt: skip
    assert either.told[-1]["flags"] == ["smart_bcc_unknown_item"]
    before = await either.counts(), len(either.told)

    await either.deliver(received(raw, bcc(item)), received(raw, bcc(item), at=hours(1)))

    assert (await either.counts(), len(either.told)) == before


# -- row 6


async def test_row_6_holds_while_every_mailbox_of_the_thread_has_it_off(either: Scene) -> None:
    await either.know(*CLIENT)
    either.house.office = office_with(mailboxes={"anna2": {"auto_link": False}})
    await either.arrive(letter("a@x"), mailbox="anna2")
    thread = await either.thread()
    assert (slot(thread), thread.reason, people(thread)) == (None, "auto_link_off", [])

    await either.arrive(letter("b@x", refers=["a@x"], date=hours(1)), mailbox="anna")

    thread = await either.thread()
    assert (slot(thread), thread.reason, people(thread)) == (
        "deal:61", "linked_single_open_item", ["person:3", "organization:7"],
    )  # fmt: skip


async def test_row_6_for_an_imported_mail_too(scene: Scene) -> None:
    await scene.know(*CLIENT)
    scene.house.office = office_with(mailboxes={"anna": {"auto_link": False}})

    await scene.bring([letter("a@x")])

    assert (await scene.thread()).reason == "auto_link_off"


async def test_row_6_for_an_owner_holds_for_smart_bcc(scene: Scene) -> None:
    await scene.know(*CLIENT)
    scene.house.office = office_with(users={"anna": {"auto_link": False}})

    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA)))

    assert (await scene.thread()).reason == "auto_link_off"


AT_TWO_ITEMS = letter("a@x", sender=ANNA, to=CARLA)
CONVERTED = {"kind": "deal", "id": "70", "person": "3", "converted_from": "abc-1"}


async def test_a_copy_for_a_lead_that_was_converted_before_lies_under_its_own_id(scene: Scene) -> None:
    """The fixture asks `verify`."""
    await scene.know(*CLIENT, LEAD, CONVERTED)
    await scene.deliver(received(AT_TWO_ITEMS, bcc("deal61"), bcc("leadabc-1")))
    assert [slot(thread) for thread in await scene.threads()] == ["deal:61", "deal:70"]


async def test_a_mail_to_a_lead_first_that_was_converted_since_delivered_again_in_another_order(scene: Scene) -> None:
    await scene.know(*CLIENT, LEAD)
    await scene.deliver(received(AT_TWO_ITEMS, bcc("leadabc-1"), bcc("deal61")))
    await scene.know(CONVERTED)
    before = await scene.counts(), len(scene.told)

    await scene.deliver(received(AT_TWO_ITEMS, bcc("deal61"), bcc("leadabc-1")))

    assert (await scene.counts(), len(scene.told)) == before


@pytest.mark.parametrize("recipients", [(bcc("deal61"),), (bcc("deal62"), bcc("deal61"))], ids=["mail", "copy"])
async def test_what_a_hand_has_unlinked_stays_so_when_the_same_delivery_comes_once_more(
    scene: Scene, recipients: tuple[str, ...]
) -> None:
    """Row 2, RFC 1047: a retry fills no slot."""
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.deliver(received(AT_TWO_ITEMS, *recipients))
    (number,) = [thread.id for thread in await scene.threads() if slot(thread) == "deal:61"]
    await changes.unlink(scene.house, "anna", [number], ItemRef.parse("deal:61"))
    before = await scene.counts(), len(scene.told)

    await scene.deliver(received(AT_TWO_ITEMS, *recipients))

    assert (await scene.counts(), len(scene.told)) == before


SENT = letter("a@x", sender=ANNA, to=f"{DORA}\r\nBcc: {CARLA}")
RECEIVED = letter("a@x", sender=ANNA, to=DORA)


@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
@pytest.mark.parametrize("copies", [(SENT, RECEIVED), (RECEIVED, SENT)], ids=["sent first", "received first"])
async def test_a_bcc_that_the_senders_copy_alone_names_counts_whichever_copy_comes_first(
    scene: Scene, copies: tuple[bytes, bytes], together: bool
) -> None:
    """T11, L26: Anna has herself in Cc, and her Sent folder knows whom she wrote to beside."""
    await scene.know(*CLIENT)
    if together:
        await scene.arrive(*copies)
    else:
        await scene.arrive(copies[0])
        await scene.arrive(copies[1], folder="Sent")

    (thread,) = await scene.threads()
    assert (slot(thread), people(thread)) == ("deal:61", ["person:3", "organization:7"])
    told = len(scene.told)
    await scene.arrive(*copies, folder="Archive")
    assert len(scene.told) == told


@pytest.mark.parametrize("first", [0, 1])
async def test_copies_that_refer_to_different_messages_join_them_whichever_comes_first(
    scene: Scene, first: int
) -> None:
    """T11, threading.md, Invariant. Whoever asks later finds what both copies say."""
    await scene.arrive(letter("m@x"), letter("n@x", date=hours(1)))
    copies = [letter("a@x", refers=refers, date=hours(2)) for refers in (["m@x"], ["n@x"])]
    await scene.arrive(copies[first])
    await scene.arrive(copies[1 - first])

    assert [thread.message_ids for thread in await scene.threads()] == [("<m@x>", "<n@x>", "<a@x>")]


async def test_an_import_decides_messages_of_which_it_brings_a_fuller_copy(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maillinkd.ingest.house.CHUNK", 1)
    await scene.know(*CLIENT)
    await scene.arrive(RECEIVED)

    await scene.bring([SENT, letter("other@x", sender=DORA)])

    thread = await scene.thread_of("a@x")
    assert (slot(thread), thread.reason) == ("deal:61", "linked_single_open_item")
