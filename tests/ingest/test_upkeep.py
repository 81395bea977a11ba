"""Quarantine within its limits."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from ingest.scene import (
    ANNA,
    CARLA,
    NOON,
    STRANGER,
    Scene,
    batch,
    fetched,
    hours,
    letter,
    office_with,
    received,
)
from ingest.trouble import POISON, break_parse
from maillinkd.ingest.upkeep import Upkeep
from maillinkd.mail.delivery import Run
from maillinkd.store import quarantine

DAY = timedelta(days=1)


def logs_of(lines: list[Any], event: str) -> list[Any]:
    return [line for line in lines if line["event"] == event]


def strange(id_: str, days: int = 0) -> Any:
    return received(letter(id_, sender=STRANGER, to=CARLA, text="x" * 2_000), at=NOON + days * DAY)


async def test_what_was_held_for_too_long_is_dropped_with_a_line_and_the_rest_stays(either: Scene) -> None:
    """However old the mail itself is."""
    either.house.office = office_with(quarantine={"keep_days": 10})
    await either.deliver(strange("old@x"))
    then = datetime.now(UTC)
    await either.deliver(strange("young@x", days=-365))

    with capture_logs() as logs:
        await Upkeep(either.house).look(then)
        assert logs_of(logs, "quarantine dropped old mail") == []
        await Upkeep(either.house).look(then + 10 * DAY)

    assert [held.message_id for held in await either.held()] == ["<young@x>"]
    (line,) = logs_of(logs, "quarantine dropped old mail")
    assert (line["older_than_days"], line["reasons"]) == (10, {"smart_bcc_unknown_sender": 1})


async def test_an_old_mail_of_a_first_sync_that_cannot_be_read_is_kept(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And once it is dropped, its UID is accounted for as dropped."""
    break_parse(monkeypatch)
    await scene.synced.file(batch(fetched(1, letter(POISON), NOON - 3650 * DAY), first_sync=True))
    upkeep = Upkeep(scene.house)

    await upkeep.tidy(datetime.now(UTC) + 89 * DAY)
    assert len(await scene.held()) == 1
    assert await scene.synced.runs("anna", "INBOX", 1, 1, 1) == [Run(1, 1, "quarantined")]

    await upkeep.tidy(datetime.now(UTC) + 91 * DAY)
    assert await scene.held() == []
    assert await scene.synced.runs("anna", "INBOX", 1, 1, 1) == [Run(1, 1, "filtered:quarantine_dropped")]


async def test_nothing_is_too_old_where_it_is_kept_for_ever(scene: Scene) -> None:
    scene.house.office = office_with(quarantine={"keep_days": 0})
    await scene.deliver(strange("old@x"))

    await Upkeep(scene.house).look(NOON + 10_000 * DAY)

    assert len(await scene.held()) == 1


async def test_once_a_day_one_process_tells_what_is_held(either: Scene) -> None:
    await either.deliver(strange("a@x"), strange("b@x"))
    one, other = Upkeep(either.house), Upkeep(either.house)

    with capture_logs() as logs:
        for upkeep, at in ((one, 0), (other, 0.1), (one, 12), (other, 24.5), (one, 25)):
            await upkeep.tidy(hours(at))

    async with either.database.reading() as connection:
        size = await quarantine.size(connection)
    lines = logs_of(logs, "quarantine holds")
    expected = {"mails": 2, "bytes": size, "reasons": {"smart_bcc_unknown_sender": 2}}
    assert [{name: line[name] for name in expected} for line in lines] == [expected] * 2


async def test_where_nothing_is_held_nothing_is_told(scene: Scene) -> None:
    with capture_logs() as logs:
        await Upkeep(scene.house).look(NOON)

    assert logs == []


async def test_it_is_full_when_what_is_held_and_what_has_come_since_reach_the_limit(scene: Scene) -> None:
    scene.house.office = office_with(quarantine={"max_size": 5_000})
    upkeep = Upkeep(scene.house)
    await upkeep.look(NOON)
    assert [upkeep.is_full(taken) for taken in (0, 4_999, 5_000)] == [False, False, True]

    await upkeep.look(NOON)  # what came was users' mail, and is filed
    assert [upkeep.is_full(taken) for taken in (9_999, 10_000)] == [False, True]

    await scene.keep(strange("a@x"), strange("b@x"), strange("c@x"))  # not yet filed
    await upkeep.look(NOON)
    assert upkeep.is_full(10_000)

    await scene.file_inbound()  # three mails that pack well
    await upkeep.look(NOON)
    assert not upkeep.is_full(10_000)


async def test_a_retry_is_forgotten_after_a_month(scene: Scene) -> None:
    again = received(letter(None, sender=ANNA, to=CARLA, date=None))
    await scene.deliver(again)
    assert await scene.count("filed_mail") == 1
    upkeep = Upkeep(scene.house)
    await upkeep.tidy(NOON)
    assert await scene.count("filed_mail") == 1

    await upkeep.tidy(NOON + 3650 * DAY)

    assert await scene.count("filed_mail") == 0
