"""How much may be fetched a day."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.imap.budget import Allowance, Budget, Traffic

HOUR = timedelta(hours=1)
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
GMAIL = Budget(2_000_000_000)
MB = 1_000_000

TIMES = st.datetimes(datetime(2026, 1, 1), datetime(2026, 1, 4), timezones=st.just(UTC))  # noqa: DTZ001  # zone beside
COMINGS = st.lists(st.tuples(TIMES, st.integers(1, 3_000_000_000)), max_size=30)


def traffic(*comings: tuple[datetime, int]) -> Traffic:
    counted = Traffic()
    for at, octets in comings:
        counted = counted.plus(octets, at)
    return counted


def test_what_came_counts_for_a_day_after_its_hour() -> None:
    counted = traffic((NOON + HOUR / 2, 5))

    assert counted.total(NOON + 24.9 * HOUR) == 5
    assert counted.total(NOON + 25 * HOUR) == 0


def test_what_no_longer_counts_is_forgotten() -> None:
    counted = traffic(*((NOON + hours * HOUR, 1) for hours in range(100)))

    assert len(counted.hours) == 25


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    counted = traffic((NOON + 1_000 * HOUR, 7), (NOON, 1))

    assert counted.total(NOON) == 8
    assert counted.total(NOON + 25 * HOUR) == 0


@given(COMINGS)
def test_never_less_than_what_the_last_24_hours_brought(comings: list[tuple[datetime, int]]) -> None:
    comings.sort()
    counted = traffic(*comings)
    end = comings[-1][0] if comings else NOON

    assert counted.total(end) >= sum(octets for at, octets in comings if at > end - 24 * HOUR)
    assert counted.total(end) <= sum(octets for at, octets in comings if at >= end - 25 * HOUR)


@given(COMINGS, st.integers(0, 5_000_000_000), TIMES)
def test_the_first_moment_of_room_is_told(comings: list[tuple[datetime, int]], most: int, now: datetime) -> None:
    counted = traffic(*sorted(coming for coming in comings if coming[0] <= now))
    free = counted.falls_to(most, now)

    assert counted.total(free) <= most
    assert free == now or counted.total(free - timedelta(microseconds=1)) > most


ROOM = {
    "nothing came yet": (0, 4 * MB, True, True),
    "old mail up to nine tenths": (1_796 * MB, 4 * MB, True, True),
    "old mail leaves a tenth": (1_797 * MB, 4 * MB, True, False),
    "new mail goes on in that tenth": (1_797 * MB, 4 * MB, False, True),
    "new mail stops at the limit": (1_997 * MB, 4 * MB, False, False),
    "what is larger than all begins when half is free": (900 * MB, 3_000 * MB, True, True),
    "and not before": (901 * MB, 3_000 * MB, True, False),
}


@pytest.mark.parametrize(("came", "wanted", "old", "allowed"), ROOM.values(), ids=ROOM.keys())
def test_room(came: int, wanted: int, old: bool, allowed: bool) -> None:
    assert GMAIL.allows(traffic((NOON, came)), wanted, NOON, old=old) is allowed


def test_without_a_limit_everything_is_allowed() -> None:
    assert Budget(0).allows(traffic((NOON, 10**15)), 10**15, NOON, old=True)


@given(COMINGS, st.integers(0, 4_000_000_000), TIMES, st.booleans())
def test_at_the_moment_that_is_told_it_is_allowed(
    comings: list[tuple[datetime, int]], wanted: int, now: datetime, old: bool
) -> None:
    counted = traffic(*sorted(coming for coming in comings if coming[0] <= now))
    free = GMAIL.room_at(counted, wanted, now, old=old)

    assert GMAIL.allows(counted, wanted, free, old=old)
    assert GMAIL.allows(counted, 200 * MB, free, old=old)
    assert GMAIL.allows(counted, wanted, now, old=old) or free > now


def test_what_has_to_wait_is_told_once_and_again_when_there_was_room() -> None:
    """Old mail leaves a tenth to new mail; what is refused names the hour from which on there is room."""
    allowance = Allowance(100 * MB, traffic((NOON, 85 * MB)))
    assert allowance.allows(5 * MB, NOON, old=True)
    allowance.count(3 * MB, NOON)
    assert not allowance.allows(5 * MB, NOON, old=True)
    assert allowance.refuse(5 * MB, NOON, old=True)
    assert not allowance.refuse(5 * MB, NOON, old=True)

    assert allowance.room_at == NOON + 25 * HOUR
    assert allowance.allows(5 * MB, NOON, old=False)
    assert not allowance.allows(1, NOON, old=True)
    assert not allowance.suffices(NOON)
    later = allowance.room_at
    assert allowance.allows(5 * MB, later, old=True)
    assert (allowance.suffices(later), allowance.suffices(later)) == (True, False)
    assert allowance.refuse(5 * MB, later, old=True)


def test_without_a_limit_nothing_waits() -> None:
    allowance = Allowance(0, traffic((NOON, 85 * MB)))

    assert allowance.allows(10**12, NOON, old=True)
    assert not allowance.suffices(NOON)
    assert allowance.traffic.total(NOON) == 85 * MB
    allowance.count(0, NOON)
    allowance.count(MB, NOON)
    assert allowance.traffic.total(NOON) == 86 * MB
