"""Dates (RFC 5322, 3.3 and 4.3)."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.date import parse_date


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (" Tue, 23 Jul 2002 19:39:23 +0300", "2002-07-23T16:39:23"),
        ("23 Jul 2002 19:39 -0130 (comment)", "2002-07-23T21:09:00"),
        ("Tue, 23 Jul 2002 19:39:23 GMT", "2002-07-23T19:39:23"),
        ("Tue, 23 Jul 2002 19:39:23 EST", "2002-07-24T00:39:23"),
        ("Tue, 23 Jul 2002 19:39:23 -0000", "2002-07-23T19:39:23"),
        ("Tue, 23 Jul 2002 19:39:23 NOWHERE", "2002-07-23T19:39:23"),
        ("Tue, 23 Jul 2002 19:39:23", "2002-07-23T19:39:23"),
        ("Tue, 23 Jul 02 19:39:23 +0000", "2002-07-23T19:39:23"),
        ("Tue, 23 Jul 2002 23:59:60 +0000", "2002-07-23T23:59:59"),
        ("Tue,\t23  jul 2002 19:39:23 +0000", "2002-07-23T19:39:23"),
        ("Tue Jul 23 19:39:23 2002", "2002-07-23T19:39:23"),
        ("Fri, 31 Dec 9999 23:59:59 +0000", "9999-12-31T23:59:59"),
        ("Fri, 31 Dec 9999 23:59:59 -0100", None),
        ("Sat, 01 Jan 0001 00:00:00 +0100", None),
        ("Tue, 32 Jul 2002 19:39:23 +0000", None),
        ("Tue, 23 Foo 2002 19:39:23 +0000", None),
        ("Tue, 23 Jul 2002 25:39:23 +0000", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_dates_are_read_in_utc_or_not_at_all(value: str, expected: str | None) -> None:
    assert (datetime.fromisoformat(expected).replace(tzinfo=UTC) if expected else None) == parse_date(value)


@given(st.integers(-2_000_000_000, 4_000_000_000), st.sampled_from("+-"), *[st.integers(0, 99)] * 2)
def test_a_zone_is_taken_off(time: int, sign: str, hours: int, minutes: int) -> None:
    second = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=time)
    ahead = timedelta(hours=hours, minutes=minutes) * (1 if sign == "+" else -1)
    written = f"{format_datetime(second)[:-5]}{sign}{hours:02}{minutes:02}"

    assert parse_date(written) == second - ahead


@given(st.one_of(st.text(), st.text("0123456789 :,+-JulTueGMT()"), st.lists(st.sampled_from(FRAGMENTS)).map("".join)))
def test_no_text_raises(value: str) -> None:
    date = parse_date(value)

    assert date is None or date.tzinfo is UTC


@pytest.mark.parametrize("fragment", [*FRAGMENTS, "1 Jul ", "+00", "00:"])
def test_the_time_is_bounded(fragment: str) -> None:
    with in_time():
        parse_date(repeated(fragment, 5_000_000))
