"""What is read in the worker: the text of whole mails, and headers where there are many."""

from collections.abc import Callable
from typing import Any

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    NOON,
    UNIVERSAL,
    Scene,
    batch,
    fetched,
    letter,
    office_with,
    received,
    slot,
)
from ingest.trouble import POISON, FailingWorker, working
from maillinkd.ingest import reading
from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.mail.message import Message
from maillinkd.store.quarantine import get
from maillinkd.worker.parent import Worker, WorkerFailed, WorkerMissing


async def test_headers_are_read_here_where_the_worker_fails() -> None:
    class Broken(Worker):
        async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
            raise WorkerFailed("took longer than 15 seconds")

    mails = [(letter(f"{n}@x"), NOON, 1_000) for n in range(reading.MANY)]

    read = await reading.read_headers(Broken(), mails)

    assert [each.message_id for each in read if isinstance(each, Message)] == [f"{n}@x" for n in range(reading.MANY)]


async def test_few_headers_are_not_worth_the_way_to_the_worker() -> None:
    worker = FailingWorker(WorkerFailed(""))

    few = await reading.read_headers(worker, [(letter("a@x"), NOON, 1_000)])
    asked = worker.asked
    many = await reading.read_headers(worker, [(letter("a@x"), NOON, 1_000)] * reading.MANY)

    assert (len(few), asked, len(many), worker.asked) == (1, 0, reading.MANY, 1)


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

    await house_.synced.file(batch(*(fetched(uid, raw, full=True) for uid, raw in enumerate(mails, start=1))))
    await house_.bring([mails[1].replace(b"Subject: ", b"Subject: 2")])

    synced, imported = await scene.held()
    assert {synced.error, imported.error} == {"the worker ended with -9"}
    assert (synced.mailbox, synced.message_id, synced.size) == ("anna", f"<{POISON}>", len(mails[1]))
    assert (await scene.thread()).message_ids == ("<a@x>",)
    assert await house_.synced.known_uids("anna", "INBOX", 1, 1, 9) == {1, 2}


async def test_mail_waits_where_no_worker_can_be_had(scene: Scene) -> None:
    """The world's fault, not the mail's."""
    house_ = working(scene, FailingWorker(WorkerMissing("cannot start the worker: no memory")))
    await house_.keep(received(letter(POISON, sender=ANNA, to=UNIVERSAL)))

    with pytest.raises(TemporaryFailure):
        await house_.file_inbound()

    assert (await scene.count("inbound"), await scene.held()) == (1, [])
