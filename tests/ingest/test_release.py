"""What leaves quarantine is filed as it would have been, had it not been held."""

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    OTHER_DEAL,
    STRANGER,
    Scene,
    batch,
    bcc,
    fetched,
    letter,
    office_with,
    received,
    slot,
)
from ingest.trouble import POISON, FailingWorker, break_parse, working
from maillinkd.ingest import release
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.release import Retried
from maillinkd.worker.parent import WorkerFailed


async def test_released_mail_is_decided_as_if_it_had_been_trusted(either: Scene) -> None:
    await either.know(*CLIENT, OTHER_DEAL)
    either.house.office = office_with(smart_bcc={"require_authentication": True})
    await either.deliver(received(letter("a@x", sender=ANNA, to=CARLA), bcc("deal62")))
    (held,) = await either.held()

    (line,) = await release.release(either.house, held.id, None)

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
        await release.release(scene.house, held.id, None)
    with pytest.raises(Refused, match="no user 'nobody'"):
        await release.release(scene.house, held.id, "nobody")
    assert len(await scene.held()) == 1

    await release.release(scene.house, held.id, "clara")

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
            await release.release(scene.house, held.id, None)

    await release.release(scene.house, held.id, None)

    (message,) = await scene.messages()
    assert [(place.folder, place.uid) for place in message.places] == [("INBOX", 1)]
    assert await scene.held() == []


async def test_an_unknown_number_is_refused(scene: Scene) -> None:
    with pytest.raises(Refused, match="there is no mail 7 in quarantine"):
        await release.release(scene.house, 7, None)


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

        found = await release.retry(either.house, lambda _: None)
        assert (found.filed, found.distrusted, found.unreadable) == (0, 0, 3)

    found = await release.retry(either.house, lambda _: None)

    assert (found.filed, found.distrusted, found.unreadable) == (2, 1, 0)
    assert [line["slot"] for line in found.lines] == ["deal:61", "deal:61"]
    assert [(held.reason, held.message_id) for held in await either.held()] == [
        ("smart_bcc_unknown_sender", f"<2{POISON}>")
    ]
    (run,) = await either.synced.runs("anna", "INBOX", 1, 1, 9)
    assert (run.low, run.high, run.disposition) == (1, 1, "stored")
    assert await release.retry(either.house, lambda _: None) == Retried(0, 0, 0, [])


async def test_a_whole_message_is_kept_whole_when_it_is_read_again(scene: Scene) -> None:
    office = office_with(policy={"match_rewritten": True}, mailboxes={"anna": {"store": "full"}})
    raw = letter(POISON, sender=ANNA, to=CARLA, text="Good morning, dear Carla, here is the offer.")
    broken = working(scene, FailingWorker(WorkerFailed("took too long")), office)
    await broken.synced.file(batch(fetched(1, raw, full=True)))
    mended = working(scene, FailingWorker(WorkerFailed("")), office)
    mended.house.worker = None

    found = await release.retry(mended.house, lambda _: None)

    assert found.filed == 1
    assert await scene.count("raw_message") == 1
