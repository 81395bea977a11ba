"""Parsing a header block (threading.md T2 to T11, linking.md "Started")."""

import sys
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.address import parse_addresses
from maillinkd.mail.message import _CONTROL, FIELDS, MAX_PARTICIPANTS, Message, Participant, Role, header_date, parse

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ROOF = b"""\
Received: from somewhere\r
From: Carla Client <Carla@Client.example>\r
Reply-To: office@client.example\r
To: Anna <anna@ourco.example>,\r
\tben@ourco.example\r
Cc: dan@client.example\r
Bcc: eve@client.example\r
Sender: robot@client.example\r
Subject: =?utf-8?Q?Re:_Gr=C3=BC=C3=9Fe?=\r
Date: Sun, 1 Mar 2026 10:00:00 +0100\r
Message-ID: <B@Client.Example>\r
In-Reply-To: <a@x> (my message)\r
References: <0@x> <a@x> <B@client.example> <robot@client.example>\r
X-Microsoft-Original-Message-ID: <old@x>\r
Thread-Topic: Roof\r
\r
body\r
"""


def parsed(headers: bytes, *, received_at: datetime = NOON, size: int = 1000) -> Message:
    return parse(headers, received_at=received_at, size=size)


def test_a_header_block_becomes_a_message() -> None:
    message = parsed(ROOF)

    assert message == Message(
        message_id="B@client.example",
        made_id=False,
        aliases=("old@x",),
        references=("0@x", "a@x"),
        in_reply_to=("a@x",),
        participants=(
            Participant(Role.FROM, "carla@client.example"),
            Participant(Role.REPLY_TO, "office@client.example"),
            Participant(Role.TO, "anna@ourco.example"),
            Participant(Role.TO, "ben@ourco.example"),
            Participant(Role.CC, "dan@client.example"),
            Participant(Role.BCC, "eve@client.example"),
        ),
        subject="Re: Grüße",
        base_subject="grüsse",
        date=datetime(2026, 3, 1, 9, tzinfo=UTC),
        sent_at=datetime(2026, 3, 1, 9, tzinfo=UTC),
        received_at=NOON,
        identity=message.identity,
        headers=ROOF.split(b"\r\n", 1)[1].split(b"\r\n\r\n")[0] + b"\r\n",
    )


def test_the_fields_that_are_fetched_are_all_that_is_looked_at() -> None:
    names = {name.lower() for name in FIELDS}
    block = b"".join(f"{name}: <{name}@x>\r\n".encode() for name in (*FIELDS, "Received", "X-Other"))

    kept = {line.partition(b":")[0].decode().lower() for line in parsed(block).headers.splitlines()}

    assert kept == names


@pytest.mark.parametrize(
    ("date", "sent_at"),
    [
        (b"Sun, 1 Mar 2026 10:00:00 +0000", datetime(2026, 3, 1, 10, tzinfo=UTC)),
        (b"Mon, 1 Jan 1990 00:00:00 +0000", datetime(1990, 1, 1, tzinfo=UTC)),
        (b"Sun, 31 Dec 1989 23:59:59 +0000", NOON),
        (b"Mon, 2 Mar 2026 12:00:00 +0000", datetime(2026, 3, 2, 12, tzinfo=UTC)),
        (b"Mon, 2 Mar 2026 12:00:01 +0000", NOON),
        (b"soon", NOON),
        (b"", NOON),
    ],
)
def test_a_date_that_cannot_be_gives_way_to_the_time_received(date: bytes, sent_at: datetime) -> None:
    """linking.md, "Started"."""
    assert sent_at == parsed(b"Date: " + date).sent_at


def test_the_time_received_is_kept_in_utc() -> None:
    east = NOON.astimezone(timezone(timedelta(hours=5)))

    assert {NOON} == {parsed(b"", received_at=time).received_at for time in (east, NOON, NOON.replace(tzinfo=None))}


def same(**changes: str) -> bytes:
    fields = {
        "From": "Carla <carla@client.example>",
        "Date": "Sun, 1 Mar 2026 10:00:00 +0000",
        "Subject": "New roof",
        "Message-ID": "<a@x>",
        "To": "anna@ourco.example",
    }
    return b"".join(f"{name}: {value}\r\n".encode() for name, value in {**fields, **changes}.items())


@pytest.mark.parametrize(
    ("changes", "equal"),
    [
        ({}, True),
        ({"Subject": "Re: New  Roof"}, True),
        ({"From": "carla@CLIENT.example (Carla)"}, True),
        ({"Date": "Sun, 1 Mar 2026 11:00:00 +0100"}, True),
        ({"To": "someone@else.example"}, True),
        ({"Message-ID": "<a@X>"}, True),
        ({"Message-ID": "<A@x>"}, False),
        ({"Subject": "Old roof"}, False),
        ({"From": "dan@client.example"}, False),
        ({"Date": "Sun, 1 Mar 2026 10:00:01 +0000"}, False),
        ({"Date": ""}, False),
    ],
)
def test_the_same_message_has_the_same_identity(changes: dict[str, str], equal: bool) -> None:
    """T11: id, From address, base subject and Date."""
    assert equal is (parsed(same()).identity == parsed(same(**changes)).identity)


def test_unreadable_dates_are_compared_as_they_stand() -> None:
    identities = [parsed(same(Date=date)).identity for date in ("some  day", "some\r\n day", "other day")]

    assert identities[0] == identities[1] != identities[2]


@pytest.mark.parametrize(
    ("changes", "equal"),
    [
        ({}, True),
        ({"Received": "from elsewhere"}, True),
        ({"From": "Carla\r\n <carla@client.example>"}, True),
        ({"From": "Other <carla@client.example>"}, False),
        ({"Date": "Sun, 1 Mar 2026 11:00:00 +0100"}, False),
        ({"Subject": "Re: New roof"}, False),
        ({"To": "ben@ourco.example"}, False),
        ({"Cc": "ben@ourco.example"}, False),
    ],
)
def test_mail_without_an_id_meets_itself_in_another_folder(changes: dict[str, str], equal: bool) -> None:
    """T5: the id that we make is a function of From, Date, Subject, To and Cc."""
    no_id = {"Message-ID": "<>"}
    one = parsed(same(**no_id))
    other = parsed(same(**no_id, **changes), received_at=NOON + timedelta(days=1), size=2)

    assert one.made_id
    assert equal is (one.message_id == other.message_id)


def test_without_a_date_the_time_received_and_the_size_tell_mails_apart() -> None:
    """T5."""
    no_date = same(**{"Message-ID": " ", "Date": " "})
    made = {
        parsed(no_date, received_at=time, size=size).message_id
        for time in (NOON, NOON.replace(hour=1))
        for size in (1, 2)
    }

    assert len(made) == 4
    assert parsed(no_date).message_id == parsed(no_date).message_id


def test_nothing_can_refer_to_an_id_that_we_made() -> None:
    """T5."""
    made = parsed(b"From: a@b\r\n").message_id
    forged = f"References: <{made}> {made}\r\nIn-Reply-To: <{made}>\r\nMessage-ID: {made}\r\n".encode()
    message = parsed(forged)

    assert made not in {message.message_id, *message.references, *message.in_reply_to}


def test_an_address_of_the_mail_is_no_reference() -> None:
    """T8: Delivered-To and X-Original-To count too, and the case does not."""
    block = b"Delivered-To: Me@x.example\r\nX-Original-To: you@x.example\r\n"
    block += b"References: <ME@X.example> <you@x.example> <c@x>\r\n"

    assert parsed(block).references == ("c@x",)


def test_bytes_that_are_not_utf_8_survive_in_ids_and_are_read_in_subjects() -> None:
    """T2."""
    message = parsed(b"Message-ID: <\xe4@x>\r\nSubject: Gr\xfc\xdfe\r\nFrom: K\xe4the <\xe4@x>\r\n")

    assert message.message_id.encode("utf-8", "surrogateescape") == b"\xe4@x"
    assert message.subject == "Grüße"
    assert message.participants == (Participant(Role.FROM, "ä@x"),)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"a\r\n b\r\n\tc", "a b c"),
        (b"=?utf-8?Q?a=0D=0Ab=1B[31m=E2=80=A8c?=", "a b [31m c"),
        (b"", ""),
        (b"x" * 2000, "x" * 998),
    ],
)
def test_a_subject_is_one_line_without_control_characters(value: bytes, expected: str) -> None:
    assert expected == parsed(b"Subject: " + value).subject


def test_participants_are_bounded_in_each_role() -> None:
    block = b"".join(b"To: a%d@x\r\n" % number for number in range(2 * MAX_PARTICIPANTS)) + b"Cc: b@x\r\n"

    assert len(parsed(block).participants) == MAX_PARTICIPANTS + 1


def test_the_date_of_a_file_is_its_date_field() -> None:
    assert header_date(b"Date:\r\nDate: Sun, 1 Mar 2026 10:00:00 +0100\r\n\r\n") == datetime(
        2026, 3, 1, 9, tzinfo=UTC
    )
    assert header_date(b"Subject: x\r\n\r\nDate: Sun, 1 Mar 2026 10:00:00 +0100\r\n") is None


names = st.sampled_from([*(name.encode() for name in FIELDS), b"X-Other"])
values = st.one_of(
    st.binary(),
    st.lists(st.sampled_from([*FRAGMENTS, "<a@b>", "c@d", "\r\n ", "1 Mar 2026 10:00 +0100"])).map(
        lambda pieces: "".join(pieces).encode()
    ),
)
blocks = st.one_of(
    st.binary(),
    st.lists(st.tuples(names, values)).map(lambda fields: b"".join(b"%b: %b\r\n" % field for field in fields)),
)


@given(blocks, st.datetimes(timezones=st.sampled_from([UTC])))
def test_any_bytes_make_a_message(headers: bytes, received_at: datetime) -> None:
    message = parsed(headers, received_at=received_at)

    assert message.subject == message.subject.encode().decode()
    assert message.base_subject == message.base_subject.encode().decode()
    assert len(message.identity) == 32
    for id_ in (message.message_id, *message.aliases, *message.references, *message.in_reply_to):
        assert id_
        assert id_.encode("utf-8", "surrogateescape")
    for participant in message.participants:
        assert participant.address == participant.address.encode().decode()


@given(blocks)
def test_the_headers_that_are_kept_make_the_same_message(headers: bytes) -> None:
    message = parsed(headers)

    assert message == parsed(message.headers)


@given(blocks)
def test_line_ends_make_no_difference(headers: bytes) -> None:
    lf = headers.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    one, other = parsed(lf), parsed(lf.replace(b"\n", b"\r\n"))

    assert (one.message_id, one.references, one.participants, one.subject, one.identity) == (
        other.message_id,
        other.references,
        other.participants,
        other.subject,
        other.identity,
    )


@pytest.mark.parametrize("field", ["From", "Subject", "References", "In-Reply-To", "Message-ID", "Date", "Bcc"])
@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_time_is_bounded(field: str, fragment: str) -> None:
    block = f"{field}: {repeated(fragment, 250_000)}\r\n".encode()
    with in_time():
        parsed(block)


def test_many_references_are_read_in_time() -> None:
    """A hundred thousand ids cost the standard library nine seconds."""
    block = b"References:" + b"".join(b"\r\n <%d@x>" % number for number in range(100_000))
    with in_time():
        message = parsed(block)

    assert len(message.references) == 100


address_lists = st.one_of(
    st.binary(max_size=30), st.sampled_from([b"a@b.example", b"A <a@b.example>, c@d.example", b"e" * 300])
)


@given(st.lists(st.tuples(st.sampled_from(["From", "Reply-To", "To", "Cc", "Bcc"]), address_lists)))
def test_people_are_told_role_by_role_however_many_fields_tell_them(written: list[tuple[str, bytes]]) -> None:
    fields = [(name, b" ".join(value.split(b"\r")).replace(b"\n", b" ")) for name, value in written]
    message = parsed(b"".join(b"%b: %b\r\n" % (name.encode(), value) for name, value in fields))

    assert message.participants == tuple(
        Participant(role, address)
        for role in (Role.FROM, Role.REPLY_TO, Role.TO, Role.CC, Role.BCC)
        for address in dict.fromkeys(
            address
            for name, value in fields
            if name.lower().replace("-", "_") == role
            for address in parse_addresses(value)
        )
    )


def test_what_is_printable_has_no_control_character_in_it() -> None:
    assert [code for code in range(sys.maxunicode + 1) if chr(code).isprintable() and _CONTROL.match(chr(code))] == []
