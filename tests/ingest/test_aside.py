"""What fails alone goes to quarantine, and the others go through, whichever way they came."""

from typing import Any

import pytest

from ingest.scene import ANNA, CARLA, UNIVERSAL, Scene, hours, letter, received
from ingest.trouble import BROKEN, ERRORS, POISON, forwarded_fails
from maillinkd.ingest import imports
from maillinkd.ingest.imports import ImportSummary
from maillinkd.mail import body
from maillinkd.mail.delivery import FolderCursor
from maillinkd.store import mailroom
from maillinkd.store.quarantine import get


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
    assert await either.synced.known_uids("anna", "INBOX", 1, 1, 3) == {1, 2, 3}
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

    summary = await imports.import_mail(scene.house, "anna", iter(mails), lambda _: None)

    assert summary == ImportSummary(read=3, new=2, quarantined=1)
    assert [(held.reason, held.error) for held in await scene.held()] == [("unreadable", ERRORS[where])]


@pytest.mark.parametrize("where", BROKEN)
async def test_the_same_for_an_import_of_smart_bcc_mail(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    BROKEN[where](monkeypatch)
    mails = [(letter(id_, sender=ANNA, to=CARLA), None) for id_ in ("a@x", POISON, "c@x")]

    summary = await imports.import_smart_bcc(scene.house, (UNIVERSAL,), ANNA, iter(mails), lambda _: None)

    assert summary == ImportSummary(read=3, new=2, quarantined=1)
    assert [held.reason for held in await scene.held()] == ["unreadable"]


async def test_mails_that_fail_only_together_are_stored_apart(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug that no single mail brings out must not stop a mailbox, nor Smart Bcc, for good."""

    store = mailroom.store

    async def fails_for_two(connection: Any, scope: int, new: Any, raws: Any) -> Any:
        if len(new) > 1:
            raise ValueError("more than one")
        return await store(connection, scope, new, raws)

    monkeypatch.setattr(mailroom, "store", fails_for_two)

    await scene.arrive(letter("b@x", refers=["a@x"], date=hours(1)), letter("a@x"))

    assert (await scene.thread()).message_ids == ("<a@x>", "<b@x>")
    assert (await scene.held(), await scene.synced.known_uids("anna", "INBOX", 1, 1, 9)) == ([], {1, 2})
