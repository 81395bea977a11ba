"""Quarantine within its limits."""

from datetime import timedelta

from structlog.testing import capture_logs

from ingest.scene import ANNA, CARLA, NOON, STRANGER, Scene, hours, letter, office_with, received
from maillinkd.ingest.upkeep import Upkeep
from maillinkd.store import quarantine

DAY = timedelta(days=1)


def strange(id_: str, days: int = 0) -> object:
    return received(letter(id_, sender=STRANGER, to=CARLA, text="x" * 2_000), at=NOON + days * DAY)


async def test_what_is_too_old_is_dropped_with_a_line_and_the_rest_stays(either: Scene) -> None:
    either.house.office = office_with(quarantine={"keep_days": 10})
    await either.deliver(strange("old@x"), strange("young@x", days=2))

    with capture_logs() as logs:
        await Upkeep(either.house).look(NOON + 11 * DAY)

    assert [held.message_id for held in await either.held()] == ["<young@x>"]
    (line,) = [each for each in logs if each["event"] == "quarantine dropped old mail"]
    assert (line["older_than_days"], line["reasons"]) == (10, {"smart_bcc_unknown_sender": 1})


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
    lines = [each for each in logs if each["event"] == "quarantine holds"]
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
