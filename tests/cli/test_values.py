from datetime import UTC, datetime

import pytest
import typer

from maillinkd.cli import values

NOW = datetime(2026, 3, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-05T09:00:00Z", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("2026-01-05T09:00:00+01:00", datetime(2026, 1, 5, 8, tzinfo=UTC)),
        ("2026-01-05t09:00:00z", datetime(2026, 1, 5, 9, tzinfo=UTC)),
        ("2026-01-05", datetime(2026, 1, 5, tzinfo=UTC)),
        ("90m", datetime(2026, 3, 31, 10, 30, tzinfo=UTC)),
        ("30d", datetime(2026, 3, 1, 12, tzinfo=UTC)),
        ("2w", datetime(2026, 3, 17, 12, tzinfo=UTC)),
    ],
)
def test_a_time_is_read(text: str, expected: datetime) -> None:
    assert expected == values.moment(text, NOW)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "0d", "30", "-1d", "2026-13-01", "0001-01-01T00:00:00+23:00", "999999w"]
)
def test_what_is_no_time_is_a_wrong_usage_that_says_what_was_expected(text: str) -> None:
    with pytest.raises(
        typer.BadParameter, match=r"expected one as in 2026-01-05T09:00:00Z|expected a time as in|before the year 1"
    ):
        values.moment(text, NOW)


def test_a_time_without_its_zone_is_refused_as_in_items() -> None:
    with pytest.raises(typer.BadParameter, match=r"has no time zone; write it as in 2026-01-05T09:00:00Z"):
        values.moment("2026-01-05T09:00:00", NOW)


def test_an_item_is_read() -> None:
    assert str(values.item("DEAL:61")) == "deal:61"


@pytest.mark.parametrize("text", ["61", "deal", "deal:", "boat:1", "deal:a b"])
def test_what_is_no_item_is_a_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no item"):
        values.item(text)


def test_a_number_is_one_that_a_row_can_have() -> None:
    assert values.number(f"{2**63 - 1}") == 2**63 - 1


@pytest.mark.parametrize("text", ["", "x", "-1", "1.5", "0", "1_0", "٣", f"{2**63}", "9" * 5_000])
def test_what_is_no_thread_is_a_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="is no thread"):
        values.number(text)
