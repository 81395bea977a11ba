"""What is bulk or automatic mail, by its header alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.classes import BORNE_BY, FIELDS, Sign, borne_by, signs
from maillinkd.mail.message import FIELDS as FETCHED

PLAIN = (
    b"Return-Path: <carla@client.example>\r\nFrom: Carla <carla@client.example>\r\nTo: anna@ourco.example\r\n"
    b"Subject: Re: mailing list\r\nContent-Type: multipart/mixed; boundary=x\r\n"
)
OURS = ("ourco.example",)


def test_a_letter_has_no_sign() -> None:
    assert signs(PLAIN) == frozenset()


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("List-Id: News <news.client.example>", Sign.LIST),
        ("List-Unsubscribe: <https://client.example/u>,\r\n <mailto:u@client.example>", Sign.LIST),
        ("List-Post: NO (announcements alone)", Sign.LIST),
        ("list-id:", None),
        ("Precedence: bulk", Sign.PRECEDENCE),
        ("Precedence:  Junk ", Sign.PRECEDENCE),
        ("Precedence: list", Sign.PRECEDENCE),
        ("Precedence: first-class", None),
        ("Auto-Submitted: auto-replied", Sign.AUTO_SUBMITTED),
        ("Auto-Submitted: auto-generated; type=x", Sign.AUTO_SUBMITTED),
        ("Auto-Submitted: No (a person wrote it)", None),
        ("Auto-Submitted: ;", Sign.AUTO_SUBMITTED),
        ("Auto-Submitted:", None),
        ("X-Auto-Response-Suppress: DR, OOF, AutoReply", Sign.AUTO_RESPONSE_SUPPRESS),
        ("X-Auto-Response-Suppress: None", None),
        ("Return-Path: <>", Sign.NULL_SENDER),
        ("Return-Path: < >", Sign.NULL_SENDER),
        ("Return-Path:", None),
        ("Content-Type: multipart/report; report-type=delivery-status", Sign.REPORT),
        ("Content-Type:\r\n MULTIPART/Report;\r\n report-type=disposition-notification", Sign.REPORT),
        ("Content-Type: multipart/report-of-mine", None),
        ("From: no-reply@client.example", Sign.NO_REPLY),
        ('From: "Shop" <NoReply+17@client.example>', Sign.NO_REPLY),
        ("From: do_not_reply@client.example", Sign.NO_REPLY),
        ("From: noreply-orders@client.example", Sign.NO_REPLY),
        ("From: MAILER-DAEMON@client.example", Sign.NO_REPLY),
        ("From: reply@client.example", None),
        ("From: nora.reply@client.example", None),
        ("Reply-To: noreply@client.example", None),
    ],
)
def test_each_sign_is_seen(field: str, expected: Sign | None) -> None:
    assert signs(PLAIN + field.encode() + b"\r\n") == ({expected} if expected else set())


def test_signs_add_up() -> None:
    block = b"List-Id: <news.client.example>\r\nPrecedence: bulk\r\nFrom: noreply@client.example\r\n"

    assert signs(block) == {Sign.LIST, Sign.PRECEDENCE, Sign.NO_REPLY}


@pytest.mark.parametrize("list_id", ["<sales.ourco.example>", "Sales <sales.OURCO.example>"])
def test_a_list_of_ones_own_is_how_clients_reach_several_colleagues(list_id: str) -> None:
    block = f"List-Id: {list_id}\r\nList-Unsubscribe: <mailto:x@y>\r\nPrecedence: list\r\n".encode()

    assert signs(PLAIN + block, OURS) == frozenset()
    assert signs(PLAIN + block) == {Sign.LIST, Sign.PRECEDENCE}


@pytest.mark.parametrize("list_id", ["<ourco.example.client.example>", "<notourco.example>", "ourco.example", "<>"])
def test_a_list_that_only_looks_like_ones_own_is_a_list(list_id: str) -> None:
    assert Sign.LIST in signs(f"List-Id: {list_id}\r\n".encode(), OURS)


def test_what_it_looks_at_is_fetched() -> None:
    assert set(FIELDS) <= set(FETCHED)


@given(st.lists(st.tuples(st.sampled_from(FIELDS), st.binary(max_size=60)), max_size=12))
def test_no_header_breaks_it(fields: list[tuple[str, bytes]]) -> None:
    signs(b"".join(name.encode() + b": " + value + b"\r\n" for name, value in fields), OURS)


def test_the_fields_that_say_it_are_shown_as_they_stand() -> None:
    headers = PLAIN + b"List-Id: News\r\n <news.client.example>\r\nlist-post:\r\nPrecedence: bulk\r\n"

    assert borne_by(headers) == ["List-Id: News <news.client.example>", "Precedence: bulk"]
    assert borne_by(PLAIN) == []
    assert borne_by(PLAIN + b"List-Id: <all.ourco.example>\r\n", OURS) == []


def test_every_sign_is_read_from_fields() -> None:
    assert BORNE_BY.keys() == set(Sign)
    assert {name for names in BORNE_BY.values() for name in names} == set(FIELDS)
