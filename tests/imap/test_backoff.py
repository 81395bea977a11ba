"""How long to stay away."""

import pytest

from maillinkd.imap.backoff import Backoff, Backoffs

DELAYS = {
    "the first": (1, None, 0.5, 1.0),
    "the second": (2, None, 1.0, 2.0),
    "the fifth": (5, None, 8.0, 16.0),
    "the hundredth": (100, None, 150.0, 300.0),
    "the millionth": (1_000_000, None, 150.0, 300.0),
    "as long as the server asks": (1, 700.0, 700.0, 700.0),
}


@pytest.mark.parametrize(("failures", "wish", "low", "high"), DELAYS.values(), ids=DELAYS.keys())
def test_backoff(failures: int, wish: float | None, low: float, high: float) -> None:
    delays = [Backoff().delay(failures, wish) for _ in range(200)]

    assert low <= min(delays) <= max(delays) <= high
    assert wish or len(set(delays)) > 100


def test_after_a_refused_login_the_server_has_its_peace_for_five_minutes_to_an_hour() -> None:
    delays = [[Backoffs().login.delay(refusals) for _ in range(100)] for refusals in range(1, 9)]

    assert min(map(min, delays)) >= 300
    assert max(map(max, delays)) <= 3_600
    assert min(delays[-1]) >= 1_800
