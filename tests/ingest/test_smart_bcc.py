"""Smart Bcc: durable when it is answered, then filed."""

import asyncio
from typing import Any

import pytest

from ingest.scene import ANNA, CARLA, CLIENT, OTHER_DEAL, STRANGER, Scene, bcc, hours, letter, received, slot
from ingest.trouble import POISON, failing
from maillinkd.ingest import smart_bcc
from maillinkd.ingest.house import House
from maillinkd.ingest.smart_bcc import SmartBcc
from maillinkd.mail.delivery import NoSpace, Received, TemporaryFailure
from maillinkd.store import inbound


async def test_what_is_taken_is_durable_when_take_returns(either: Scene) -> None:
    keeping = asyncio.create_task(either.smart_bcc.keep_what_comes())
    deliveries = [received(letter(f"m{n}@x", sender=ANNA, to=CARLA)) for n in range(30)]

    await asyncio.gather(*map(either.smart_bcc.take, deliveries))

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
    keeping = asyncio.create_task(scene.smart_bcc.keep_what_comes())

    await asyncio.gather(*(scene.smart_bcc.take(received(letter(f"m{n}@x"))) for n in range(smart_bcc.MAX_BATCH + 1)))

    keeping.cancel()
    assert (sum(commits), max(commits), len(commits) <= 3) == (smart_bcc.MAX_BATCH + 1, smart_bcc.MAX_BATCH, True)


async def test_mail_that_could_not_be_kept_is_not_answered_with_250(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the next one is."""
    keeping = asyncio.create_task(scene.smart_bcc.keep_what_comes())
    with monkeypatch.context() as broken:

        async def full(_: object) -> None:
            raise NoSpace("full")

        broken.setattr(scene.database, "at_once", full)
        with pytest.raises(NoSpace):
            await scene.smart_bcc.take(received(letter("a@x")))

    await scene.smart_bcc.take(received(letter("b@x")))

    assert await scene.count("inbound") == 1
    keeping.cancel()


async def test_a_mail_that_the_store_chokes_on_harms_no_other(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours is a 451 to those who came together, and the door stays open."""
    keeping = asyncio.create_task(scene.smart_bcc.keep_what_comes())
    keep = inbound.keep

    async def chokes(connection: Any, deliveries: list[Received]) -> None:
        if any(POISON.encode() in each.raw for each in deliveries):
            raise ValueError("cannot be kept")
        await keep(connection, deliveries)

    monkeypatch.setattr(inbound, "keep", chokes)
    outcomes = await asyncio.gather(
        scene.smart_bcc.take(received(letter("a@x"))),
        scene.smart_bcc.take(received(letter(POISON))),
        scene.smart_bcc.take(received(letter("b@x"))),
        return_exceptions=True,
    )

    assert [type(outcome) for outcome in outcomes] == [type(None), TemporaryFailure, type(None)]
    await scene.smart_bcc.take(received(letter("c@x")))
    assert (await scene.count("inbound"), keeping.done()) == (3, False)
    keeping.cancel()


async def test_what_was_kept_is_filed_as_soon_as_it_is_there(scene: Scene) -> None:
    told = asyncio.Event()
    watched = SmartBcc(House(scene.database, scene.house.office, instance="test/all", publish=lambda _: told.set()))
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


async def test_where_the_database_fails_inbound_mail_waits(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    await scene.keep(received(letter("a@x", sender=ANNA, to=CARLA)))

    with monkeypatch.context() as broken:
        broken.setattr(scene.database, "transaction", failing(scene, TemporaryFailure("gone")))
        with pytest.raises(TemporaryFailure):
            await scene.file_inbound()

    assert (await scene.count("inbound"), await scene.count("message"), await scene.held()) == (1, 0, [])
    assert await scene.file_inbound() == 1
