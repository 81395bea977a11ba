"""What is to be done about a server's words."""

import pytest

from maillinkd.imap.errors import LoginRefused, Refused, Unreachable, printable

ANSWERS = {
    "wrong password": ("AUTHENTICATIONFAILED", "Invalid credentials (Failure)", False, None),
    "no code": ("", "LOGIN failed.", False, None),
    "expired": ("EXPIRED", "change it", False, None),
    "not permitted": ("AUTHORIZATIONFAILED", "no", False, None),
    "the directory server is down": ("UNAVAILABLE", "Temporary authentication failure.", True, None),
    "too many connections, by code": ("LIMIT", "mail_max_userip_connections", True, None),
    "too many connections, by words": ("ALERT", "Too many simultaneous connections. (Failure)", True, None),
    "a bug of theirs": ("SERVERBUG", "oops", True, None),
    "in use": ("INUSE", "locked", True, None),
    "throttled with a time": ("THROTTLED", "Suggested Backoff Time: 294123 milliseconds", True, 294.123),
    "too many connections, as Dovecot says it": ("UNAVAILABLE", "Maximum number of connections exceeded", True, None),
    "Gmail's bytes of the day": ("OVERQUOTA", "Account exceeded command or bandwidth limits.", True, 1_800.0),
    "the same by code alone": ("OVERQUOTA", "Enough", True, 1_800.0),
    "Yahoo's rate": ("LIMIT", "UID FETCH Rate limit hit.", True, 1_800.0),
    "a rate with a time": ("LIMIT", "Rate limit. Suggested Backoff Time: 9000 milliseconds", True, 9.0),
    "a mailbox server that is away": ("", "User is authenticated but not connected.", True, 60.0),
}


@pytest.mark.parametrize(("code", "text", "transient", "retry_after"), ANSWERS.values(), ids=ANSWERS.keys())
def test_answers(code: str, text: str, transient: bool, retry_after: float | None) -> None:
    refused = Refused("LOGIN", "NO", code, text)

    assert (transient, retry_after) == (refused.transient, refused.retry_after)


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("Too many simultaneous connections. (Failure)", True),
        ("Maximum number of connections from user+IP exceeded (mail_max_userip_connections=1)", True),
        ("Rate limit hit", False),
    ],
)
def test_that_no_connection_is_left(text: str, full: bool) -> None:
    assert Refused("LOGIN", "NO", "LIMIT", text).no_connection_left is full
    assert Unreachable("login", text).no_connection_left is full


def test_words_of_a_server_stay_on_one_line() -> None:
    assert printable("a\r\nb\x1b[31m\u2028c\u202e") == "a  b [31m c "
    assert len(printable("x" * 10_000)) < 400


def test_the_error_says_what_the_server_said() -> None:
    assert str(LoginRefused("login", "NO", "EXPIRED", "old\npassword")) == "login: NO [EXPIRED] old password"


def test_a_good_bye_may_name_a_time_too() -> None:
    assert Unreachable("bye", "Suggested Backoff Time: 1500 milliseconds").retry_after == 1.5
