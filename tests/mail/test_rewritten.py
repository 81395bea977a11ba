"""threading.md T12: copies of a mail meet although a relay replaced Message-ID and Date."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.message import parse
from maillinkd.mail.rewritten import BUCKET, content_ids

SENT = datetime(2026, 3, 1, 9, 50, tzinfo=UTC)
TEXT = "Dear Carla,\r\n\r\nthe roof will be ready on Monday, see https://x.example/?id=1 for more.\r\n"


def mail(*, id: str = "a@x", at: datetime = SENT, subject: str = "New roof", to: str = "carla@client.example",
         text: str = TEXT) -> bytes:  # fmt: skip
    date = at.strftime("%a, %d %b %Y %H:%M:%S +0000")
    return (
        f"Message-ID: <{id}>\r\nDate: {date}\r\nFrom: Anna <anna@ourco.example>\r\nTo: {to}\r\n"
        f"Subject: {subject}\r\n\r\n{text}"
    ).encode()


def ids(raw: bytes) -> set[str]:
    return set(content_ids(parse(raw, received_at=SENT, size=len(raw)), raw))


@given(st.integers(0, 10 * BUCKET), st.integers(0, BUCKET // 2))
def test_copies_up_to_an_hour_apart_always_share_an_id(start: int, apart: int) -> None:
    first = SENT + timedelta(seconds=start)
    rewritten = mail(id="ses@amazonses.example", at=first + timedelta(seconds=apart))

    assert ids(mail(at=first)) & ids(rewritten)


@pytest.mark.parametrize(
    ("what", "other"),
    [
        ("three hours later", mail(at=SENT + timedelta(hours=3))),
        ("another subject", mail(subject="Old roof")),
        ("another recipient", mail(to="dan@client.example")),
        ("another text", mail(text=TEXT.replace("Monday", "Friday"))),
    ],
)
def test_other_mail_shares_none(what: str, other: bytes) -> None:
    assert not ids(mail()) & ids(other)


@pytest.mark.parametrize(
    ("what", "same"),
    [
        ("a reply prefix, another case", mail(subject="RE: new ROOF")),
        ("another link, as trackers write them", mail(text=TEXT.replace("?id=1", "?id=2"))),
        ("other line breaks", mail(text=TEXT.replace("\r\n", "\n\n"))),
    ],
)
def test_what_relays_change_does_not_count(what: str, same: bytes) -> None:
    assert ids(mail()) == ids(same)


@pytest.mark.parametrize("raw", [mail(text="ok, thanks\r\n"), mail().replace(b"Date: ", b"X-Date: ")])
def test_short_texts_and_mail_without_a_date_have_no_content_ids(raw: bytes) -> None:
    assert ids(raw) == set()


def test_no_header_can_name_a_content_id() -> None:
    assert all(" " in each for each in ids(mail()))
