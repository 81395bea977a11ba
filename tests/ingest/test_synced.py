"""Synced mail: filed once, the cursor with it, and each UID accounted for."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ingest.scene import CLIENT, Scene, batch, fetched, letter, slot
from ingest.trouble import POISON, DeathError, break_parse, failing
from maillinkd.mail.delivery import FolderCursor, NoSpace, Stand, TemporaryFailure


async def test_fifty_changes_of_uidvalidity_double_nothing_and_lose_no_link(scene: Scene) -> None:
    await scene.know(*CLIENT)
    letters = [letter("a@x"), letter("b@x", refers=["a@x"])]
    await scene.arrive(*letters)
    (before,) = await scene.threads()
    messages = [fetched(uid, raw) for uid, raw in enumerate(letters, 1)]
    for validity in range(2, 52):
        renumbered = batch(*messages)
        await scene.synced.file(replace(renumbered, cursor=replace(renumbered.cursor, uidvalidity=validity)))
    (after,) = await scene.threads()

    assert (slot(after), after.message_ids, after.persons) == (slot(before), ("<a@x>", "<b@x>"), before.persons)
    assert slot(before) is not None
    assert await scene.count("message") == 2


async def test_how_a_folder_stood_is_kept(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))
    stand = Stand(1, 2, 1, 7, False, datetime(2026, 11, 22, tzinfo=UTC))
    await scene.synced.settled("anna", "INBOX", stand)

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
    assert await scene.synced.known_uids("anna", "INBOX", 1, 1, 1) == {1}


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
