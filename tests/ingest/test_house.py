"""Every decision is told after its commit, and none twice without need (architecture.md)."""

from typing import Any

import pytest

from ingest.scene import CLIENT, Scene, batch, fetched, letter
from ingest.trouble import DeathError, failing
from maillinkd.ingest.house import House
from maillinkd.ingest.synced import Synced
from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.store.journal import lines as journal_lines


async def test_a_decision_is_told_after_its_commit(scene: Scene) -> None:
    """Whoever reads the line finds the decision in the journal."""
    found: list[int] = []

    def look(line: dict[str, Any]) -> None:
        import sqlite3

        with sqlite3.connect(f"file:{scene.database.path}?mode=ro", uri=True) as reader:
            query = reader.execute("SELECT count(*) FROM decision WHERE id = ?", [line["decision"]])
            found.append(query.fetchone()[0])

    watched = House(scene.database, scene.house.office, instance="test/all", publish=look)

    await Synced(watched).file(batch(fetched(1, letter("a@x")), fetched(2, letter("b@x"))))

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
        dying.setattr(either.house, "tell", die)
        with pytest.raises(DeathError):
            await either.arrive(letter("a@x"), letter("b@x"))
    assert either.told == []

    later = either.after_a_restart()
    assert await later.house.tell_unlogged() == 2

    async with either.database.reading() as connection:
        assert later.told == await journal_lines(connection)
    assert await either.unlogged() == 0


async def test_who_takes_over_a_mailbox_tells_its_lines(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.house, "tell", lambda _: None)
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
    await Synced(full).file(batch(fetched(1, letter("a@x")), fetched(2, letter("b@x")), fetched(3, letter("c@x"))))
    assert (len(written), len(await scene.threads())) == (1, 3)

    room = 99
    await full.tell_unlogged()

    assert (len(written), sorted(set(written))) == (3, sorted(written))


async def test_lines_that_can_never_be_written_are_not_tried_for_ever(scene: Scene) -> None:
    def publish(_line: dict[str, Any]) -> None:
        raise OSError("no space left")

    full = House(scene.database, scene.house.office, instance="test/all", publish=publish)
    await Synced(full).file(batch(fetched(1, letter("a@x"))))

    assert await full.tell_unlogged() == 0
