"""Arguments of MAIL and RCPT (RFC 5321, 4.1.1.2, 4.1.1.3)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.smtp.command import (
    ChunkCommand,
    MailCommand,
    SyntaxRefusal,
    is_host_name,
    parse_bdat,
    parse_mail,
    parse_rcpt,
)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<anna@ourco.example>", MailCommand("anna@ourco.example")),
        ("from:<anna@ourco.example>", MailCommand("anna@ourco.example")),
        ("FROM: <anna@ourco.example> ", MailCommand("anna@ourco.example")),
        ("FROM:<>", MailCommand("")),
        ("FROM:<> SIZE=4711", MailCommand("", size=4711)),
        ("FROM:<a@b.example> size=4711 body=8bitmime", MailCommand("a@b.example", size=4711)),
        ("FROM:<a@b.example> SMTPUTF8 SMTPUTF8", MailCommand("a@b.example", smtputf8=True)),
        ("FROM:<a@b.example> BODY=7BIT SMTPUTF8", MailCommand("a@b.example", smtputf8=True)),
        ("FROM:<änna@bücher.example> SMTPUTF8", MailCommand("änna@bücher.example", smtputf8=True)),
        ('FROM:<"a b@c>d"@e.example>', MailCommand('"a b@c>d"@e.example')),
        ("FROM:<a@[192.0.2.1]>", MailCommand("a@[192.0.2.1]")),
        ("FROM:<a@[IPv6:2001:db8::1]>", MailCommand("a@[IPv6:2001:db8::1]")),
        ("FROM:<a..b.@docomo.example>", MailCommand("a..b.@docomo.example")),
        ("FROM:<bounce+a=b.example@c_d.example.>", MailCommand("bounce+a=b.example@c_d.example.")),
    ],
)
def test_a_sender_is_read(argument: str, expected: MailCommand) -> None:
    assert parse_mail(argument) == expected


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("", "501 5.5.4"),
        ("TO:<a@b.example>", "501 5.5.4"),
        ("<a@b.example>", "501 5.5.4"),
        ("FROM:", "553 5.1.7"),
        ("FROM:<", "553 5.1.7"),
        ("FROM:<a@b.example", "553 5.1.7"),
        ("FROM:a@b.example", "553 5.1.7"),
        ("FROM:<a@b.example>SIZE=1", "553 5.1.7"),
        ("FROM:<root>", "553 5.1.7"),
        ("FROM:<@b.example>", "553 5.1.7"),
        ("FROM:<a@>", "553 5.1.7"),
        ("FROM:<a@b@c.example>", "553 5.1.7"),
        ("FROM:<a@b..example>", "553 5.1.7"),
        ("FROM:<a@.example>", "553 5.1.7"),
        ("FROM:<a b@c.example>", "553 5.1.7"),
        ("FROM:<a(comment)@c.example>", "553 5.1.7"),
        ("FROM:<@relay.example:a@b.example>", "553 5.1.7"),
        ('FROM:<"a@b.example>', "553 5.1.7"),
        ('FROM:<"a\rb"@c.example>', "553 5.1.7"),
        ('FROM:<"a\x1bb"@c.example>', "553 5.1.7"),
        ("FROM:<a\x00b@c.example>", "553 5.1.7"),
        ("FROM:<a\u2028b@c.example> SMTPUTF8", "553 5.1.7"),
        ("FROM:<a\u202eb@c.example> SMTPUTF8", "553 5.1.7"),
        ("FROM:<a\udcffb@c.example> SMTPUTF8", "553 5.1.7"),
        (f"FROM:<{'a' * 320}@b.example>", "553 5.1.7"),
        ("FROM:<änna@ourco.example>", "553 5.6.7"),
        ("FROM:<a@b.example> SIZE=many", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=-1", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=٣", "501 5.5.4"),
        (f"FROM:<a@b.example> SIZE={'9' * 21}", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", "501 5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<a@b.example> AUTH=<>", "555 5.5.4"),
        ("FROM:<a@b.example> RET=FULL", "555 5.5.4"),
    ],
)
def test_what_is_no_sender_is_refused(argument: str, code: str) -> None:
    with pytest.raises(SyntaxRefusal) as refusal:
        parse_mail(argument)

    assert refusal.value.reply.startswith(code)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("", "501 5.5.4"),
        ("FROM:<a@b.example>", "501 5.5.4"),
        ("TO:<>", "553 5.1.3"),
        ("TO:<postmaster>", "553 5.1.3"),
        ("TO:a@b.example", "553 5.1.3"),
        ("TO:<@relay.example:a@b.example>", "553 5.1.3"),
        ("TO:<a@b.example> NOTIFY=NEVER", "555 5.5.4"),
        ("TO:<ä@b.example>", "553 5.6.7"),
    ],
)
def test_what_is_no_recipient_is_refused(argument: str, code: str) -> None:
    with pytest.raises(SyntaxRefusal) as refusal:
        parse_rcpt(argument, smtputf8=False)

    assert refusal.value.reply.startswith(code)


def test_a_recipient_is_read_as_it_was_given() -> None:
    assert parse_rcpt("TO:<OurCo+Deal61@Bcc.example>", smtputf8=False) == "OurCo+Deal61@Bcc.example"
    assert parse_rcpt("to: <ourco@bücher.example>", smtputf8=True) == "ourco@bücher.example"


@given(st.text(max_size=200))
def test_whatever_is_accepted_can_be_stored_and_printed(text: str) -> None:
    for argument in (text, f"FROM:<{text}> SMTPUTF8", f"FROM:<{text}@b.example> SMTPUTF8"):
        try:
            sender = parse_mail(argument).sender
        except SyntaxRefusal as refusal:
            said = refusal.reply
        else:
            said = sender.encode("utf-8").decode()
            assert said == sender
        assert said.isprintable()


@pytest.mark.parametrize(
    ("argument", "chunk"),
    [
        ("0", ChunkCommand(0, last=False)),
        ("86 LAST", ChunkCommand(86, last=True)),
        ("86  last", ChunkCommand(86, last=True)),
        ("9" * 20, ChunkCommand(int("9" * 20), last=False)),
    ],
)
def test_a_chunk_is_read(argument: str, chunk: ChunkCommand) -> None:
    assert parse_bdat(argument) == chunk


@pytest.mark.parametrize(
    "argument", ["", "LAST", "-1", "+1", "1.0", "0x10", "1_0", "١", "1 LAST LAST", "1LAST", "9" * 21]
)
def test_a_chunk_of_unknown_length_is_refused(argument: str) -> None:
    with pytest.raises(SyntaxRefusal) as refusal:
        parse_bdat(argument)
    assert refusal.value.reply.startswith("501 5.5.4")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("client.example", True),
        ("[192.0.2.7]", True),
        ("bücher.example", True),
        ("x" * 255, True),
        ("x" * 256, False),
        ("", False),
        ("two words", False),
        ("\x07", False),
        ("\udcff", False),
    ],
)
def test_a_client_may_call_itself_any_printable_word(text: str, expected: bool) -> None:
    assert is_host_name(text) is expected
