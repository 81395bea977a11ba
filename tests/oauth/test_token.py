"""When a token is renewed, by whatever clock."""

from datetime import UTC, datetime, timedelta

import pytest

from maillinkd.oauth.token import AccessToken

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def token(seconds: float | None) -> AccessToken:
    return AccessToken("secret", NOON, None if seconds is None else NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("after", "fresh"),
    [
        pytest.param(0, True, id="at once"),
        pytest.param(2_879, True, id="before four fifths of its life"),
        pytest.param(2_880, False, id="at four fifths"),
        pytest.param(3_601, False, id="after its end"),
        pytest.param(-299, True, id="clocks that differ a little"),
        pytest.param(-301, False, id="a clock that was set back since"),
        pytest.param(365 * 86_400, False, id="a clock that jumped a year ahead"),
        pytest.param(-365 * 86_400, False, id="a clock that jumped a year back"),
    ],
)
def test_a_token_of_an_hour_is_fresh_for_48_minutes_by_the_wall_clock(after: int, fresh: bool) -> None:
    assert token(3_600).is_fresh(NOON + timedelta(seconds=after)) is fresh


def test_one_whose_end_nobody_told_is_used_until_it_is_refused() -> None:
    assert token(None).renew_at is None
    assert token(None).is_fresh(NOON + timedelta(days=300))


@pytest.mark.parametrize("secret", ["", "with space", "line\r\nbreak", "ctrl\x01a", "é", "x" * 32_769])
def test_what_could_end_a_sasl_message_is_no_token(secret: str) -> None:
    with pytest.raises(ValueError) as caught:
        AccessToken(secret, NOON, None)

    assert not secret or secret not in str(caught.value)


def test_its_repr_does_not_show_it() -> None:
    assert "secret" not in repr(token(60)).replace("AccessToken", "")
