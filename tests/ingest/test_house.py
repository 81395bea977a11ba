"""Nothing is lost, nothing is filed twice, and every decision is told after its commit (architecture.md)."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    DORA,
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
    received,
    slot,
)
from maillinkd.ingest import house
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.house import House, ImportSummary
from maillinkd.ingest.office import Office
from maillinkd.mail import body, message
from maillinkd.mail.delivery import FolderCursor, NoSpace, Received, Stand, TemporaryFailure
from maillinkd.store import inbound, mailroom, schema
from maillinkd.store.journal import lines as journal_lines
from maillinkd.store.quarantine import get
from maillinkd.worker.parent import Worker, WorkerFailed, WorkerMissing

POISON = "poison@x"
_parse, _store, _forwarded = message.parse, mailroom.store, body.forwarded_addresses


class DeathError(BaseException):
    """The process ends here."""


# -- what fails alone


def parse_fails(headers: bytes, **arguments: Any) -> Any:
    if POISON.encode() in headers:
        raise RecursionError("too deep")
    return _parse(headers, **arguments)


async def store_fails(connection: Any, scope: int, new: Any) -> Any:
    if any(each.message_id == POISON for each in new.values()):
        raise ValueError("cannot be stored")
    return await _store(connection, scope, new)


def forwarded_fails(raw: bytes, *arguments: Any) -> Any:
    if POISON.encode() in raw:
        raise RecursionError("too deep")
    return _forwarded(raw, *arguments)


def break_parse(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(message, "parse", parse_fails)


def break_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailroom, "store", store_fails)


BROKEN = {"parse": break_parse, "store": break_store}
ERRORS = {"parse": "RecursionError: too deep", "store": "ValueError: cannot be stored"}


@pytest.mark.parametrize("where", BROKEN)
async def test_a_mail_that_fails_alone_goes_to_quarantine_and_the_others_go_through(
    either: Scene, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    BROKEN[where](monkeypatch)
    raw = letter(POISON, date=hours(1))

    await either.arrive(letter("a@x"), raw, letter("c@x", date=hours(2)))

    (held,) = await either.held()
    assert (held.reason, held.error, held.mailbox, held.channel) == ("unreadable", ERRORS[where], "anna", "imap")
    async with either.database.reading() as connection:
        kept = await get(connection, held.id)
    assert kept is not None
    assert (kept.raw, kept.uid) == (raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n", 2)
    assert sorted(thread.message_ids for thread in await either.threads()) == [("<a@x>",), ("<c@x>",)]
    assert await either.cursor() == FolderCursor(1, 3, 0, None, 0)
    assert await either.house.known_uids("anna", "INBOX", 1, 1, 3) == {1, 2, 3}
    assert len(either.told) == 2


@pytest.mark.parametrize("where", [*BROKEN, "forward"])
async def test_the_same_for_smart_bcc_mail(either: Scene, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    if where == "forward":
        monkeypatch.setattr(body, "forwarded_addresses", forwarded_fails)
    else:
        BROKEN[where](monkeypatch)
    to = UNIVERSAL if where == "forward" else CARLA
    raw = letter(POISON, sender=ANNA, to=to)

    await either.deliver(
        received(letter("a@x", sender=ANNA, to=CARLA)), received(raw), received(letter("c@x", sender=ANNA, to=CARLA))
    )

    (held,) = await either.held()
    async with either.database.reading() as connection:
        kept = await get(connection, held.id)
    assert kept is not None
    assert (held.reason, kept.raw, kept.sender, kept.recipients) == ("unreadable", raw, ANNA, (UNIVERSAL,))
    assert sorted(thread.message_ids for thread in await either.threads()) == [("<a@x>",), ("<c@x>",)]
    assert await either.count("inbound") == 0


@pytest.mark.parametrize("where", BROKEN)
async def test_the_same_for_an_import(scene: Scene, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    BROKEN[where](monkeypatch)
    mails = [(letter("a@x"), None), (letter(POISON), None), (letter("c@x"), None)]

    summary = await scene.house.import_mail("anna", iter(mails), lambda _: None)

    assert summary == ImportSummary(read=3, new=2, quarantined=1)
    assert [(held.reason, held.error) for held in await scene.held()] == [("unreadable", ERRORS[where])]


@pytest.mark.parametrize("where", BROKEN)
async def test_the_same_for_an_import_of_smart_bcc_mail(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    BROKEN[where](monkeypatch)
    mails = [(letter(id_, sender=ANNA, to=CARLA), None) for id_ in ("a@x", POISON, "c@x")]

    summary = await scene.house.import_smart_bcc((UNIVERSAL,), ANNA, iter(mails), lambda _: None)

    assert summary == ImportSummary(read=3, new=2, quarantined=1)
    assert [held.reason for held in await scene.held()] == ["unreadable"]


async def test_mails_that_fail_only_together_are_stored_apart(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that no single mail brings out must not stop a mailbox, nor Smart Bcc, for good."""

    async def fails_for_two(connection: Any, scope: int, new: Any) -> Any:
        if len(new) > 1:
            raise ValueError("more than one")
        return await _store(connection, scope, new)

    monkeypatch.setattr(mailroom, "store", fails_for_two)

    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), letter("a@x"))

    assert (await scene.thread()).message_ids == ("<a@x>", "<b@x>")
    assert (await scene.held(), await scene.house.known_uids("anna", "INBOX", 1, 1, 9)) == ([], {1, 2})


async def test_fifty_changes_of_uidvalidity_double_nothing_and_lose_no_link(scene: Scene) -> None:
    await scene.know(*CLIENT)
    letters = [letter("a@x"), letter("b@x", refers=["a@x"])]
    await scene.arrive(*letters)
    (before,) = await scene.threads()
    messages = [fetched(uid, raw) for uid, raw in enumerate(letters, 1)]
    for validity in range(2, 52):
        renumbered = batch(*messages)
        await scene.house.file(replace(renumbered, cursor=replace(renumbered.cursor, uidvalidity=validity)))
    (after,) = await scene.threads()

    assert (slot(after), after.message_ids, after.persons) == (slot(before), ("<a@x>", "<b@x>"), before.persons)
    assert slot(before) is not None
    assert await scene.count("message") == 2


async def test_how_a_folder_stood_is_kept(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    stand = Stand(1, 2, 1, 7, False, datetime(2026, 11, 22, tzinfo=UTC))
    await scene.house.settled("anna", "INBOX", stand)

    cursor = await scene.cursor()
    assert cursor is not None
    assert cursor.stand == stand


async def test_what_is_held_twice_lies_there_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    break_parse(monkeypatch)

    await scene.arrive(letter(POISON))
    await scene.arrive(letter(POISON))

    assert len(await scene.held()) == 1


async def test_a_message_of_which_the_server_gives_nothing_is_accounted_for(scene: Scene) -> None:
    await scene.arrive(b"")

    assert [held.error for held in await scene.held()] == ["the server does not give it"]
    assert await scene.house.known_uids("anna", "INBOX", 1, 1, 1) == {1}


# -- what the world does


def failing(scene: Scene, failure: BaseException) -> Callable[[], Any]:
    """A way into the database that breaks when the transaction is about to be committed."""
    transaction = scene.database.transaction

    @asynccontextmanager
    async def broken() -> AsyncIterator[Any]:
        async with transaction() as connection:
            yield connection
            raise failure

    return broken


@pytest.mark.parametrize("failure", [TemporaryFailure("gone"), NoSpace("full"), DeathError()], ids=repr)
async def test_where_the_database_fails_nothing_is_filed_and_the_cursor_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    await scene.arrive(letter("a@x"))
    before, told = await scene.counts(), list(scene.told)

    with monkeypatch.context() as broken:
        broken.setattr(scene.database, "transaction", failing(scene, failure))
        with pytest.raises(type(failure)):
            await scene.arrive(letter("b@x"), first_uid=2)

    assert (await scene.counts(), await scene.cursor(), scene.told) == (before, FolderCursor(1, 1, 0, None, 0), told)

    await scene.arrive(letter("b@x"), first_uid=2)

    assert (len(await scene.threads()), await scene.cursor()) == (2, FolderCursor(1, 2, 0, None, 0))


async def test_where_the_database_fails_inbound_mail_waits(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.keep(received(letter("a@x", sender=ANNA, to=CARLA)))

    with monkeypatch.context() as broken:
        broken.setattr(scene.database, "transaction", failing(scene, TemporaryFailure("gone")))
        with pytest.raises(TemporaryFailure):
            await scene.file_inbound()

    assert (await scene.count("inbound"), await scene.count("message"), await scene.held()) == (1, 0, [])
    assert await scene.file_inbound() == 1


# -- telling


async def test_a_decision_is_told_after_its_commit(scene: Scene) -> None:
    """Whoever reads the line finds the decision in the journal."""
    found: list[int] = []

    def look(line: dict[str, Any]) -> None:
        import sqlite3

        with sqlite3.connect(f"file:{scene.database.path}?mode=ro", uri=True) as reader:
            query = reader.execute("SELECT count(*) FROM decision WHERE id = ?", [line["decision"]])
            found.append(query.fetchone()[0])

    watched = House(scene.database, scene.house.office, instance="test/all", publish=look)

    await watched.file(batch(fetched(1, letter("a@x")), fetched(2, letter("b@x"))))

    assert found == [1, 1]


async def test_the_line_is_that_of_the_journal(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    async with scene.database.reading() as connection:
        assert await journal_lines(connection) == scene.told


async def test_what_was_told_is_noted_and_not_told_again(either: Scene) -> None:
    await either.arrive(letter("a@x"))
    assert await either.unlogged() == 1

    await either.house.note_told()

    assert await either.unlogged() == 0
    later = either.after_a_restart()
    assert (await later.house.tell_unlogged(["anna"]), later.told) == (0, [])


async def test_the_next_transaction_notes_what_was_told(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    await scene.arrive(letter("b@x"), first_uid=2)

    assert await scene.unlogged() == 1  # the second


async def test_a_transaction_that_fails_forgets_nothing_that_was_told(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.arrive(letter("a@x"))
    with monkeypatch.context() as broken:
        broken.setattr(scene.database, "transaction", failing(scene, TemporaryFailure("gone")))
        with pytest.raises(TemporaryFailure):
            await scene.arrive(letter("b@x"), first_uid=2)

    await scene.house.note_told()

    assert await scene.unlogged() == 0


async def test_a_process_that_dies_between_commit_and_line_leaves_the_line_to_its_next_start(
    either: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(_lines: object) -> None:
        raise DeathError

    with monkeypatch.context() as dying:
        dying.setattr(either.house, "_tell", die)
        with pytest.raises(DeathError):
            await either.arrive(letter("a@x"), letter("b@x"))
    assert either.told == []

    later = either.after_a_restart()
    assert await later.house.tell_unlogged() == 2

    async with either.database.reading() as connection:
        assert later.told == await journal_lines(connection)
    assert await either.unlogged() == 0


async def test_who_takes_over_a_mailbox_tells_its_lines(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.house, "_tell", lambda _: None)
    await scene.arrive(letter("a@x"))
    await scene.arrive(letter("b@x"), mailbox="ben")

    other = Scene.on(scene.database, instance="elsewhere/all")
    await other.house.tell_unlogged(["anna"])

    assert [line["mailbox"] for line in other.told] == ["anna"]


async def test_a_line_that_cannot_be_written_is_due_still(scene: Scene) -> None:
    """A full disk: the mail is filed all the same."""
    room = 1
    written: list[int] = []

    def publish(line: dict[str, Any]) -> None:
        if len(written) == room:
            raise OSError("no space left")
        written.append(line["decision"])

    full = House(scene.database, scene.house.office, instance="test/all", publish=publish)
    await full.file(batch(fetched(1, letter("a@x")), fetched(2, letter("b@x")), fetched(3, letter("c@x"))))
    assert (len(written), len(await scene.threads())) == (1, 3)

    room = 99
    await full.tell_unlogged()

    assert (len(written), sorted(set(written))) == (3, sorted(written))


async def test_lines_that_can_never_be_written_are_not_tried_for_ever(scene: Scene) -> None:
    def publish(_line: dict[str, Any]) -> None:
        raise OSError("no space left")

    full = House(scene.database, scene.house.office, instance="test/all", publish=publish)
    await full.file(batch(fetched(1, letter("a@x"))))

    assert await full.tell_unlogged() == 0


# -- imports


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

    summary = await scene.house.import_mail("anna", ((raw, None) for raw in BROUGHT), seen.append)

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
    monkeypatch.setattr(house, "IMPORT_BYTES", 500)
    sizes = (200, 200, 200, 900, 150, 150)
    mails = ((letter(f"{n}@x").ljust(size, b"x"), None) for n, size in enumerate(sizes))
    seen: list[int] = []

    summary = await scene.house.import_mail("anna", mails, seen.append)

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
        await either.house.import_mail("anna", cut_off(), lambda _: None)
    assert [thread.reason for thread in await either.threads()] == [None] * 2
    assert either.told == []

    later = either.after_a_restart()
    await later.house.finish_imports()

    assert [(thread.reason, slot(thread)) for thread in await either.threads()] == [
        ("linked_single_open_item", "deal:61")
    ] * 2
    assert len(later.told) == 2


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

    summary = await scene.house.import_smart_bcc((bcc("deal62"),), ANNA, iter(mails), lambda _: None)

    thread = await scene.thread()
    assert (summary, slot(thread), thread.flags) == (ImportSummary(2, 2, 0), "deal:62", ())


async def test_smart_bcc_mail_from_a_file_for_an_address_that_is_not_ours_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="is no Smart Bcc address"):
        await scene.house.import_smart_bcc((CARLA,), ANNA, iter([(letter("a@x"), None)]), lambda _: None)


# -- Smart Bcc: whose mail it is


async def test_mail_of_a_stranger_waits_in_quarantine(either: Scene) -> None:
    """L14."""
    raw = letter("a@x", sender=STRANGER, to=CARLA)

    await either.deliver(received(raw, bcc("deal61"), sender=STRANGER))

    (held,) = await either.held()
    assert (held.reason, held.message_id, held.channel, held.author) == (
        "smart_bcc_unknown_sender", "<a@x>", "smart_bcc", STRANGER,
    )  # fmt: skip
    assert (await either.threads(), await either.count("inbound")) == ([], 0)


@pytest.mark.parametrize("sender", ["Anna.K@ourco.example", "Anna <anna@OURCO.example>"])
async def test_a_users_aliases_are_his_own(scene: Scene, sender: str) -> None:
    await scene.deliver(received(letter("a@x", sender=sender, to=CARLA)))

    assert (await scene.thread()).owner == "anna"


async def test_mail_with_two_authors_is_nobodys(scene: Scene) -> None:
    await scene.deliver(received(letter("a@x", sender=f"{ANNA}, boss@ourco.example", to=CARLA)))

    assert [held.reason for held in await scene.held()] == ["smart_bcc_unknown_sender"]


async def test_mail_is_not_believed_where_authentication_is_required(scene: Scene) -> None:
    """Until SPF and DKIM are checked, that is all mail."""
    scene.house.office = office_with(smart_bcc={"require_authentication": True})

    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA)))

    assert [(held.reason, held.author) for held in await scene.held()] == [("smart_bcc_unauthenticated", ANNA)]
    assert await scene.threads() == []


async def test_mail_of_several_users_in_one_batch_goes_to_each(scene: Scene) -> None:
    await scene.deliver(
        received(letter("a@x", sender=ANNA, to=CARLA)), received(letter("b@x", sender="ben@ourco.example", to=CARLA))
    )

    assert sorted(thread.owner for thread in await scene.threads()) == ["anna", "ben"]


# -- Smart Bcc: durable, then filed


async def test_what_is_taken_is_durable_when_take_returns(either: Scene) -> None:
    keeping = asyncio.create_task(either.house.keep_what_comes())
    deliveries = [received(letter(f"m{n}@x", sender=ANNA, to=CARLA)) for n in range(30)]

    await asyncio.gather(*map(either.house.take, deliveries))

    assert await either.count("inbound") == 30
    keeping.cancel()
    later = either.after_a_restart()
    assert (await later.file_inbound(), len(await later.threads())) == (30, 30)


async def test_mail_that_comes_together_is_committed_together(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    keep = inbound.keep

    async def counted(connection: Any, deliveries: Any) -> None:
        commits.append(len(deliveries))
        await keep(connection, deliveries)

    monkeypatch.setattr(inbound, "keep", counted)
    keeping = asyncio.create_task(scene.house.keep_what_comes())

    await asyncio.gather(*(scene.house.take(received(letter(f"m{n}@x"))) for n in range(house.MAX_BATCH + 1)))

    keeping.cancel()
    assert (sum(commits), max(commits), len(commits) <= 3) == (house.MAX_BATCH + 1, house.MAX_BATCH, True)


async def test_mail_that_could_not_be_kept_is_not_answered_with_250(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one is."""
    keeping = asyncio.create_task(scene.house.keep_what_comes())
    with monkeypatch.context() as broken:

        async def full(_: object) -> None:
            raise NoSpace("full")

        broken.setattr(scene.database, "at_once", full)
        with pytest.raises(NoSpace):
            await scene.house.take(received(letter("a@x")))

    await scene.house.take(received(letter("b@x")))

    assert await scene.count("inbound") == 1
    keeping.cancel()


async def test_a_mail_that_the_store_chokes_on_harms_no_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours is a 451 to those who came together, and the door stays open."""
    keeping = asyncio.create_task(scene.house.keep_what_comes())
    keep = inbound.keep

    async def chokes(connection: Any, deliveries: list[Received]) -> None:
        if any(POISON.encode() in each.raw for each in deliveries):
            raise ValueError("cannot be kept")
        await keep(connection, deliveries)

    monkeypatch.setattr(inbound, "keep", chokes)
    outcomes = await asyncio.gather(
        scene.house.take(received(letter("a@x"))),
        scene.house.take(received(letter(POISON))),
        scene.house.take(received(letter("b@x"))),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), TemporaryFailure, type(None)]
    await scene.house.take(received(letter("c@x")))
    assert (await scene.count("inbound"), keeping.done()) == (3, False)
    keeping.cancel()


async def test_what_was_kept_is_filed_as_soon_as_it_is_there(scene: Scene) -> None:
    told = asyncio.Event()
    watched = House(scene.database, scene.house.office, instance="test/all", publish=lambda _: told.set())
    tasks = [asyncio.create_task(watched.keep_what_comes()), asyncio.create_task(watched.file_what_was_kept())]

    await watched.take(received(letter("a@x", sender=ANNA, to=CARLA)))
    await asyncio.wait_for(told.wait(), 5)

    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (await scene.count("inbound"), len(await scene.threads())) == (0, 1)


async def test_two_processes_that_file_the_same_mail_store_it_once(either: Scene) -> None:
    """Several may serve Smart Bcc on one database."""
    await either.know(*CLIENT, OTHER_DEAL)
    deliveries = [
        received(letter(f"m{n}@x", sender=ANNA, to=CARLA, date=hours(n)), bcc("deal61"), bcc("deal62"))
        for n in range(10)
    ]
    await either.keep(*deliveries, received(letter("s@x", sender=STRANGER)))
    other = either.after_a_restart()

    await asyncio.gather(either.file_inbound(), other.file_inbound())

    assert sorted(slot(thread) or "" for thread in await either.threads()) == ["deal:61"] * 10 + ["deal:62"] * 10
    assert (len(await either.held()), await either.count("inbound")) == (1, 0)
    assert {flag for thread in await either.threads() for flag in thread.flags} == {"smart_bcc_duplicate"}


# -- release


async def test_released_mail_is_decided_as_if_it_had_been_trusted(either: Scene) -> None:
    await either.know(*CLIENT, OTHER_DEAL)
    either.house.office = office_with(smart_bcc={"require_authentication": True})
    await either.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal62")))
    (held,) = await either.held()

    (line,) = await either.house.release(held.id, None)

    thread = await either.thread()
    assert (thread.owner, slot(thread), line["trigger"], line["reason"]) == (
        "anna", "deal:62", "release", "smart_bcc_explicit",
    )  # fmt: skip
    assert (await either.held(), either.told[-1]) == ([], line)


async def test_released_mail_of_a_stranger_needs_an_owner(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.deliver(received(letter("a@x", sender=STRANGER, to=CARLA), bcc("deal61")))
    (held,) = await scene.held()
    with pytest.raises(Refused, match="--owner USER"):
        await scene.house.release(held.id, None)
    with pytest.raises(Refused, match="no user 'nobody'"):
        await scene.house.release(held.id, "nobody")
    assert len(await scene.held()) == 1

    await scene.house.release(held.id, "clara")

    thread = await scene.thread()
    assert (thread.owner, slot(thread), await scene.held()) == ("clara", "deal:61", [])


async def test_a_mail_that_can_be_read_now_is_released_to_where_it_lies(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scene.know(*CLIENT)
    with monkeypatch.context() as broken:
        break_parse(broken)
        await scene.arrive(letter(POISON))
        (held,) = await scene.held()
        with pytest.raises(Refused, match="still cannot be read"):
            await scene.house.release(held.id, None)

    await scene.house.release(held.id, None)

    (message,) = await scene.messages()
    assert [(place.folder, place.uid) for place in message.places] == [("INBOX", 1)]
    assert await scene.held() == []


async def test_an_unknown_number_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="there is no mail 7 in quarantine"):
        await scene.house.release(7, None)


# -- L28


async def test_decide_dry_run_says_what_would_change_and_writes_nothing(either: Scene) -> None:
    await either.arrive(letter("a@x"))
    await either.know(*CLIENT)
    await either.house.note_told()
    before = await either.counts()

    (line,) = await either.house.decide(since=None, item=None, dry_run=True, progress=lambda _: None)

    assert (line["slot"], line["reason"], line["trigger"]) == ("deal:61", "linked_single_open_item", "decide")
    assert (await either.counts(), (await either.thread()).reason) == (before, "no_known_person")


async def test_decide_is_one_batch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house, "DECIDE_CHUNK", 1)
    await scene.arrive(letter("a@x"), letter("b@x"), letter("c@x", sender=STRANGER))
    await scene.know(*CLIENT)

    found = await scene.house.decide(since=None, item=None, dry_run=False, progress=lambda _: None)

    assert [(line["slot"], line["batch"]) for line in found] == [("deal:61", 1), ("deal:61", 1)]
    assert (await scene.count("batch"), scene.told[-2:]) == (1, found)


async def test_a_decide_that_changes_nothing_leaves_no_batch(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    assert await scene.house.decide(since=None, item=None, dry_run=False, progress=lambda _: None) == []
    assert await scene.count("batch") == 0


# -- mail that nothing tells from its retry


async def test_a_retry_of_mail_without_id_and_date_is_not_filed_twice(either: Scene) -> None:
    """Its made id holds the time at which it was received (T5), and a retry comes later."""
    raw = letter(None, sender=ANNA, to=CARLA, date=None)
    await either.deliver(received(raw))
    await either.deliver(received(raw, at=hours(3)), received(raw, at=hours(4)))
    assert [len(thread.message_ids) for thread in await either.threads()] == [1]

    await either.deliver(received(raw, bcc("deal61"), at=hours(5)))  # another envelope

    assert await either.count("message") == 2


async def test_mail_that_is_held_may_come_again(scene: Scene) -> None:
    """So that its sender can be let in, and send it once more."""
    raw = letter(None, sender=STRANGER, to=CARLA, date=None)
    await scene.deliver(received(raw))

    assert (await scene.count("filed_mail"), len(await scene.held())) == (0, 1)


# -- the worker


class FailingWorker(Worker):
    """Does the work here, and fails as told where the poison is met."""

    def __init__(self, failure: Exception) -> None:
        super().__init__()
        self.failure = failure
        self.asked = 0

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.asked += 1
        if arguments and isinstance(arguments[0], bytes) and POISON.encode() in arguments[0]:
            raise self.failure
        return function(*arguments)


def working(scene: Scene, worker: Worker, office: Office | None = None) -> Scene:
    """The same house with a worker."""
    told: list[dict[str, Any]] = []
    house_ = House(
        scene.database, office or scene.house.office, instance="test/all", publish=told.append, worker=worker
    )
    return Scene(scene.database, house_, told)


FORWARD = "---------- Forwarded message ---------\r\nFrom: Carla <{}>\r\nDate: today\r\nSubject: Roof\r\n\r\nHello"


async def test_a_forward_is_read_in_the_worker(scene: Scene) -> None:
    await scene.know(*CLIENT)
    async with Worker() as worker:
        house_ = working(scene, worker)
        await house_.deliver(received(letter("f@x", sender=ANNA, to=UNIVERSAL, text=FORWARD.format(CARLA))))

    assert slot(await scene.thread()) == "deal:61"


async def test_a_mail_that_kills_the_worker_is_held_and_the_others_go_through(either: Scene) -> None:
    worker = FailingWorker(WorkerFailed("took longer than 15 seconds"))
    house_ = working(either, worker)
    raws = [letter(id_, sender=ANNA, to=UNIVERSAL) for id_ in ("a@x", POISON, "c@x")]

    await house_.deliver(*map(received, raws))

    (held,) = await either.held()
    async with either.database.reading() as connection:
        kept = await get(connection, held.id)
    assert kept is not None
    assert (kept.reason, kept.error, kept.raw) == ("unreadable", "took longer than 15 seconds", raws[1])
    assert sorted(thread.message_ids for thread in await either.threads()) == [("<a@x>",), ("<c@x>",)]
    assert worker.asked == 3


async def test_the_same_for_synced_and_imported_mail_whose_text_is_asked_for(scene: Scene) -> None:
    office = office_with(policy={"match_rewritten": True}, mailboxes={"anna": {"store": "full"}})
    house_ = working(scene, FailingWorker(WorkerFailed("the worker ended with -9")), office)
    text = "Good morning, dear Carla, here is the offer."
    mails = [letter(id_, sender=ANNA, to=CARLA, text=text) for id_ in ("a@x", POISON)]

    await house_.house.file(batch(*(fetched(uid, raw, full=True) for uid, raw in enumerate(mails, start=1))))
    await house_.bring([mails[1].replace(b"Subject: ", b"Subject: 2")])

    synced, imported = await scene.held()
    assert {synced.error, imported.error} == {"the worker ended with -9"}
    assert (synced.mailbox, synced.message_id, synced.size) == ("anna", f"<{POISON}>", len(mails[1]))
    assert (await scene.thread()).message_ids == ("<a@x>",)
    assert await house_.house.known_uids("anna", "INBOX", 1, 1, 9) == {1, 2}


async def test_mail_waits_where_no_worker_can_be_had(scene: Scene) -> None:
    """The world's fault, not the mail's."""
    house_ = working(scene, FailingWorker(WorkerMissing("cannot start the worker: no memory")))
    await house_.keep(received(letter(POISON, sender=ANNA, to=UNIVERSAL)))

    with pytest.raises(TemporaryFailure):
        await house_.file_inbound()

    assert (await scene.count("inbound"), await scene.held()) == (1, [])


# -- quarantine retry


async def test_what_could_not_be_read_is_read_again(either: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a fix: what is trusted is filed, what is not is held for that reason, synced mail gets its place."""
    await either.know(*CLIENT)
    with monkeypatch.context() as broken:
        break_parse(broken)
        await either.deliver(
            received(letter(POISON, sender=ANNA, to=CARLA)),
            received(letter(f"2{POISON}", sender=STRANGER, to=CARLA)),
        )
        await either.arrive(letter(f"3{POISON}"))
        assert {held.reason for held in await either.held()} == {"unreadable"}

        found = await either.house.retry(lambda _: None)
        assert (found.filed, found.distrusted, found.unreadable) == (0, 0, 3)

    found = await either.house.retry(lambda _: None)

    assert (found.filed, found.distrusted, found.unreadable) == (2, 1, 0)
    assert [line["slot"] for line in found.lines] == ["deal:61", "deal:61"]
    assert [(held.reason, held.message_id) for held in await either.held()] == [
        ("smart_bcc_unknown_sender", f"<2{POISON}>")
    ]
    (run,) = await either.house.runs("anna", "INBOX", 1, 1, 9)
    assert (run.low, run.high, run.disposition) == (1, 1, "stored")
    assert await either.house.retry(lambda _: None) == house.Retried(0, 0, 0, [])


async def test_a_whole_message_is_kept_whole_when_it_is_read_again(scene: Scene) -> None:
    office = office_with(policy={"match_rewritten": True}, mailboxes={"anna": {"store": "full"}})
    raw = letter(POISON, sender=ANNA, to=CARLA, text="Good morning, dear Carla, here is the offer.")
    broken = working(scene, FailingWorker(WorkerFailed("took too long")), office)
    await broken.house.file(batch(fetched(1, raw, full=True)))
    mended = working(scene, FailingWorker(WorkerFailed("")), office)
    mended.house._worker = None

    found = await mended.house.retry(lambda _: None)

    assert found.filed == 1
    assert await scene.count("raw_message") == 1


async def test_one_mail_to_several_addresses_is_one_message_and_a_copy_for_each_further_item(either: Scene) -> None:
    """L16 (c): the first item in order of RCPT has the message; an item that is named twice has one."""
    await either.know(*CLIENT, OTHER_DEAL)
    recipients = [UNIVERSAL, bcc("deal61"), bcc("DEAL62"), bcc("deal61"), bcc("Deal62"), "nobody@bcc.ourco.example"]

    await either.deliver(received(letter("a@x", sender=ANNA, to=CARLA), *recipients))

    found = {slot(thread): thread.reason for thread in await either.threads()}
    assert found == {"deal:61": "smart_bcc_explicit", "deal:62": "smart_bcc_explicit"}
    assert await either.count("message") == 2
