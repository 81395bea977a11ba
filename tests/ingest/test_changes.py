"""`decide` is one batch, and a dry run writes nothing (linking.md L28)."""

import pytest

from ingest.scene import CLIENT, STRANGER, Scene, letter
from maillinkd.ingest import changes


async def test_decide_dry_run_says_what_would_change_and_writes_nothing(either: Scene) -> None:
    await either.arrive(letter("a@x"))
    await either.know(*CLIENT)
    await either.house.note_told()
    before = await either.counts()

    (line,) = await changes.decide(either.house, since=None, item=None, dry_run=True, progress=lambda _: None)

    assert (line["slot"], line["reason"], line["trigger"]) == ("deal:61", "linked_single_open_item", "decide")
    assert (await either.counts(), (await either.thread()).reason) == (before, "no_known_person")


async def test_decide_is_one_batch(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "DECIDE_CHUNK", 1)
    await scene.arrive(letter("a@x"), letter("b@x"), letter("c@x", sender=STRANGER))
    await scene.know(*CLIENT)

    found = await changes.decide(scene.house, since=None, item=None, dry_run=False, progress=lambda _: None)

    assert [(line["slot"], line["batch"]) for line in found] == [("deal:61", 1), ("deal:61", 1)]
    assert (await scene.count("batch"), scene.told[-2:]) == (1, found)


async def test_a_decide_that_changes_nothing_leaves_no_batch(scene: Scene) -> None:
    await scene.know(*CLIENT)
    await scene.arrive(letter("a@x"))

    assert await changes.decide(scene.house, since=None, item=None, dry_run=False, progress=lambda _: None) == []
    assert await scene.count("batch") == 0
