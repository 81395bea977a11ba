"""An import is one batch: all mail is placed, then its threads are decided (linking.md L26)."""

from typing import Any

import pytest

from ingest.scene import ANNA, CARLA, CLIENT, DORA, OTHER_DEAL, STRANGER, Scene, bcc, hours, letter, office_with, slot
from ingest.trouble import DeathError
from maillinkd.ingest import house, imports
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.imports import ImportSummary
from maillinkd.store import schema


def chunk(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """So many messages in one transaction."""
    monkeypatch.setattr(house, "CHUNK", size)
    monkeypatch.setattr(house, "SHARED_CHUNK", size)


TWO_CLIENTS = (
    *CLIENT,
    {"kind": "person", "id": "4", "title": "Dora", "addresses": [DORA]},
    {"kind": "deal", "id": "70", "title": "Fence", "person": "4", "added_at": "2026-01-07T09:00:00Z"},
)


STORED = (letter("a@x"), letter("b@x", sender=DORA, date=hours(2)))


BROUGHT = (
    letter("z@x", sender=DORA, refers=["a@x"], date=hours(9)),
    letter("c@x", refers=["b@x", "h@x"], date=hours(5)),
    letter("d@x", sender=STRANGER, date=hours(1)),
    letter("a@x"),
    letter("e@x", refers=["d@x"], date=hours(3)),
    letter("h@x", sender=DORA, refers=["g@x"], date=hours(-9)),
    letter("f@x", sender=ANNA, to=[CARLA, DORA], refers=["g@x"], date=hours(4)),
)
"""Joins both stored threads, moves the start of one, and has a thread of its own."""


@pytest.mark.parametrize("size", [1, 2, 3, 100])
async def test_an_import_is_one_batch_whatever_the_chunks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """L26: all mail is placed first, then each thread touched is decided, once."""
    await scene.know(*TWO_CLIENTS)
    await scene.arrive(*STORED)
    scene.told.clear()
    chunk(monkeypatch, size)
    seen: list[int] = []

    summary = await imports.import_mail(scene.house, "anna", ((raw, None) for raw in BROUGHT), seen.append)

    found = await scene.threads()
    assert [(thread.message_ids, slot(thread), thread.reason) for thread in found] == [
        (("<h@x>", "<b@x>", "<f@x>", "<c@x>"), "deal:70", "kept_existing_link"),
        (("<a@x>", "<z@x>"), "deal:61", "kept_existing_link"),
        (("<d@x>", "<e@x>"), "deal:61", "linked_single_open_item"),
    ]
    assert summary == ImportSummary(read=7, new=6, quarantined=0)
    assert sum(seen) == 7
    assert sorted(line["thread"] for line in scene.told) == sorted(thread.id for thread in found)
    assert await scene.count("message", schema.message.c.undecided) == 0


async def test_an_import_holds_few_bytes_however_large_the_mails(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "IMPORT_BYTES", 500)
    sizes = (200, 200, 200, 900, 150, 150)
    mails = ((letter(f"{n}@x").ljust(size, b"x"), None) for n, size in enumerate(sizes))
    seen: list[int] = []

    summary = await imports.import_mail(scene.house, "anna", mails, seen.append)

    assert summary.new == 6
    assert seen == [2, 1, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 100])
async def test_a_merge_in_an_import_is_told_as_one_whatever_the_chunks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """L21: the link that is dropped is named in the decision."""
    await scene.know(*TWO_CLIENTS)
    await scene.arrive(*STORED)
    chunk(monkeypatch, size)

    joining = letter("c@x", refers=["a@x", "b@x"], date=hours(5))
    await scene.bring([joining, *(letter(f"d{n}@x", refers=["c@x"], date=hours(6 + n)) for n in range(3))])

    thread, told = await scene.thread(), scene.told[-1]
    assert (slot(thread), thread.flags) == ("deal:61", ("slot_lost_in_merge",))
    assert (told["trigger"], told["slot"], told["flags"], told.get("lost")) == (
        "merge", "deal:61", ["slot_lost_in_merge"], ["deal:70"],
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 100])
async def test_the_lines_of_an_import_name_mailbox_and_newest_mail_whatever_the_chunks(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    chunk(monkeypatch, size)

    await scene.bring([letter("b@x", refers=["a@x"], date=hours(2)), letter("a@x", date=hours(1))])

    (told,) = scene.told
    assert (told["mailbox"], told["message_id"]) == ("anna", "<b@x>")


async def test_an_import_that_was_cut_off_is_finished(either: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its mail is placed; the next start decides the threads, as the whole import would have done."""
    await either.know(*CLIENT)
    chunk(monkeypatch, 2)

    def cut_off() -> Any:
        yield from ((letter(f"m{n}@x", date=hours(n)), None) for n in range(5))
        raise DeathError

    with pytest.raises(DeathError):
        await imports.import_mail(either.house, "anna", cut_off(), lambda _: None)
    assert [thread.reason for thread in await either.threads()] == [None] * 4
    assert either.told == []

    later = either.after_a_restart()
    await imports.finish_imports(later.house)

    assert [(thread.reason, slot(thread)) for thread in await either.threads()] == [
        ("linked_single_open_item", "deal:61")
    ] * 4
    assert len(later.told) == 4


async def test_mail_that_is_imported_again_changes_nothing(either: Scene) -> None:
    await either.know(*CLIENT)
    mails = [letter("a@x"), letter("b@x", refers=["a@x"], date=hours(1))]
    await either.bring(mails)
    await either.house.note_told()
    before = await either.counts()

    await either.bring(mails)

    assert (await either.counts(), len(either.told)) == (before, 1)


async def test_imported_mail_meets_its_copy_in_the_mailbox(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    await scene.bring([letter("a@x")])

    (message,) = await scene.messages()
    assert [(place.mailbox, place.folder) for place in message.places] == [("anna", None), ("anna", "INBOX")]


async def test_whole_mails_are_kept_where_the_mailbox_says_so(scene: Scene) -> None:
    scene.house.office = office_with(mailboxes={"anna": {"store": "full"}})
    await scene.bring([letter("a@x")])
    await scene.bring([letter("b@x")], mailbox="ben")

    assert await scene.count("raw_message") == 1


async def test_smart_bcc_mail_from_a_file_is_filed_in_order_of_sent_time(scene: Scene) -> None:
    """The reply stands first in the file; the original names the item all the same."""
    await scene.know(*CLIENT, OTHER_DEAL)
    mails = [
        (letter("b@x", sender=ANNA, to=CARLA, refers=["a@x"], date=hours(1)), None),
        (letter("a@x", sender=ANNA, to=CARLA), None),
    ]

    summary = await imports.import_smart_bcc(scene.house, (bcc("deal62"),), ANNA, iter(mails), lambda _: None)

    thread = await scene.thread()
    assert (summary, slot(thread), thread.flags) == (ImportSummary(2, 2, 0), "deal:62", ())


async def test_smart_bcc_mail_from_a_file_for_an_address_that_is_not_ours_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="is no Smart Bcc address"):
        await imports.import_smart_bcc(scene.house, (CARLA,), ANNA, iter([(letter("a@x"), None)]), lambda _: None)
