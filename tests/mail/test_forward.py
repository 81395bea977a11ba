"""Whose mail was forwarded (linking.md L15)."""

from email.message import EmailMessage
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.forward import MAX_LINES, Found, forwarded_addresses

CARLA = "Carla Client <carla@client.example>"


def mail(body: str, subtype: str = "plain") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Anna <anna@ourco.example>"
    message["To"] = "ourco@bcc.ourco.example"
    message["Subject"] = "Fwd: question"
    message.set_content(body, subtype=subtype)
    return message


def inline(body: str, subtype: str = "plain") -> list[str]:
    found = forwarded_addresses(mail(body, subtype).as_bytes())

    assert all(each.evidence == "inline" for each in found)
    return [each.address for each in found]


FORWARDS = {
    "Gmail": """\
see below

---------- Forwarded message ---------
From: *Carla Client* <carla@client.example>
Date: Sun, Mar 1, 2026 at 9:00 AM
Subject: question
To: Anna <anna@ourco.example>,
 <dan@client.example>


How much is it?
""",
    "Apple Mail, German": f"""\
Anfang der weitergeleiteten Nachricht:

> Von: {CARLA}
> Betreff: Frage
> Datum: 1. März 2026 um 09:00:00 MEZ
> An: Anna <anna@ourco.example>
> Kopie: dan@client.example
>
> Was kostet es?
""",
    "Outlook, French": f"""\
________________________________
De : {CARLA}
Envoyé : dimanche 1 mars 2026 09:00
À : 'anna@ourco.example' <anna@ourco.example>; dan@client.example
Objet : question

Combien ?
""",
    "Outlook, plain text": """\
-----Original Message-----
From: Carla Client [mailto:carla@client.example]
Sent: Sunday, March 1, 2026 9:00 AM
To: Anna; dan@client.example; anna@ourco.example
Subject: question
""",
    "Outlook on the web, bold": f"""\
*From:* {CARLA}
*Sent: *Sunday, March 1, 2026 9:00 AM
**To:** Anna <anna@ourco.example>
*Cc:* dan@client.example
*Subject:* question
""",
    "Thunderbird, Spanish": f"""\
-------- Mensaje reenviado --------
Asunto: \tpregunta
Fecha: \tSun, 1 Mar 2026 09:00:00 +0100
De: \t{CARLA}
Para: \tAnna <anna@ourco.example>, dan@client.example
""",
    "Yahoo, all in one line": (
        '----- Forwarded Message ----- From: x\nFrom: "Carla" <carla@client.example>To: Anna <anna@ourco.example>'
        "Cc: dan <dan@client.example>Sent: Sunday, March 1, 2026Subject: question\n"
    ),
    "Hubspot, Japanese": f"""\
---------- メッセージを転送 ---------
送信元：{CARLA}
日付：2026年3月1日
件名：質問
送信先：anna@ourco.example
CC：dan@client.example
""",
    "Polish": f"Od: {CARLA}\nDo: anna@ourco.example\nDW: dan@client.example\nData: 1.03.2026\nTemat: pytanie\n",
    "Russian": f"От: {CARLA}\nДата: 1 марта\nКому: anna@ourco.example\nКопия: dan@client.example\nТема: вопрос\n",
    "Hebrew": f"\u200fמאת: {CARLA}\n\u200fנושא: x\n\u200fאל: anna@ourco.example, dan@client.example\n",
    "Turkish": f"Kimden: {CARLA}\nKonu: soru\nKime: anna@ourco.example, dan@client.example\n",
    "a whole header, pasted": (
        f"Message-ID: <q1@c>\nFrom: {CARLA}\nUser-Agent: x\nX-Mailer: y\nTo: anna@ourco.example, dan@client.example\n"
    ),
    "an empty line between the fields": f"From: {CARLA}\n\nTo: anna@ourco.example, dan@client.example\n\nDate: 1\n",
}


@pytest.mark.parametrize("client", FORWARDS)
def test_the_quoted_header_of_a_forward_is_read(client: str) -> None:
    assert {"carla@client.example", "anna@ourco.example", "dan@client.example"} == set(inline(FORWARDS[client]))


def test_addresses_come_in_the_order_of_the_fields_without_repeats() -> None:
    body = f"To: anna@ourco.example, {CARLA}\nSubject: x\nFrom: {CARLA}\n"

    assert inline(body) == ["carla@client.example", "anna@ourco.example"]


@pytest.mark.parametrize(
    "body",
    [
        "Hello, how are you?",
        "On Sunday, Carla <carla@client.example> wrote:\n> hello",
        f"From: {CARLA}\n\nonly one label",
        f"From: {CARLA}\n\n\nTo: anna@ourco.example\n",
        f"From: {CARLA}\nsome words\nSubject: x\n",
        "From: Berlin\nTo: Paris\n",
        f"Hi, this is From: {CARLA}\nSubject: x\n",
        f"To: {CARLA}\nSubject: x\n",
        "x\n" * MAX_LINES + f"From: {CARLA}\nSubject: x\n",
        f"Reply-To: {CARLA}\nCc: {CARLA}\nFrom: nobody\nSubject: x\n",
    ],
)
def test_a_wrong_person_is_worse_than_none(body: str) -> None:
    assert inline(body) == []


def test_only_the_first_block_counts() -> None:
    first = "From: Carla Client\nSent: Monday\nTo: dan@client.example\nSubject: b\n\nhello\n\n"
    second = "From: eve@client.example\nSent: Sunday\nTo: fred@client.example\nSubject: a\n"

    assert inline(first + second) == ["dan@client.example"]


@pytest.mark.parametrize(
    "html",
    [
        "<html><head><style>p {a:b}</style></head><body>see<div><b>From:</b> Carla &lt;"
        '<a href="mailto:carla@client.example">carla@client.example</a>&gt;<br><b>Sent:</b> Sunday<br>'
        "<b>To:</b> <span>anna@ourco.example</span><br><b>Subject:</b> x</div></body></html>",
        "<table><tr><th>Betreff: </th><td>x</td></tr>"
        "<tr><th>Von: </th><td>Carla &lt;carla@client.example&gt;</td></tr>"
        "<tr><th>An: </th><td>anna@ourco.example</td></tr></table>",
    ],
)
def test_html_is_read_where_there_is_no_text(html: str) -> None:
    assert inline(html, "html") == ["carla@client.example", "anna@ourco.example"]


def test_the_text_comes_before_the_html() -> None:
    message = mail(f"From: {CARLA}\nSubject: x\n")
    message.add_alternative("<p>From: eve@client.example<br>Subject: x</p>", subtype="html")

    assert (Found("carla@client.example", "inline"),) == forwarded_addresses(message.as_bytes())


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "8bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_encoded_bodies_are_read(encoding: str, charset: str) -> None:
    message = mail("x")
    message.set_content(f"Från: Käthe <carla@client.example>\nÄmne: f{'å' * 80}\n", cte=encoding, charset=charset)

    assert (Found("carla@client.example", "inline"),) == forwarded_addresses(message.as_bytes())


def attached(*senders: str) -> EmailMessage:
    message = mail("From: eve@client.example\nSubject: not looked at\n")
    for sender in senders:
        inner = EmailMessage()
        inner["From"] = sender
        inner["Reply-To"] = "office@client.example"
        inner["To"] = "anna@ourco.example"
        inner["Cc"] = "dan@client.example"
        inner["Bcc"] = "nobody@client.example"
        inner.set_content("From: fred@client.example\nSubject: x\n")
        message.add_attachment(inner)
    return message


def test_all_attached_messages_count_and_then_no_text() -> None:
    expected = ("carla@client.example", "office@client.example", "anna@ourco.example", "dan@client.example")

    found = forwarded_addresses(attached(CARLA, "gina@client.example").as_bytes())

    assert [Found(address, "attached") for address in (*expected, "gina@client.example")] == list(found)


def test_messages_attached_to_attached_messages_count_too() -> None:
    inner = attached("gina@client.example")
    outer = mail("see attached")
    outer.add_attachment(inner)

    addresses = [found.address for found in forwarded_addresses(outer.as_bytes())]

    assert addresses[:2] == ["anna@ourco.example", "ourco@bcc.ourco.example"]
    assert "gina@client.example" in addresses


@pytest.mark.parametrize(
    ("mode", "from_attached", "from_inline"),
    [("attached+inline", True, True), ("attached", True, False), ("off", False, False)],
)
def test_the_policy_says_where_to_look(
    mode: Literal["attached+inline", "attached", "off"], from_attached: bool, from_inline: bool
) -> None:
    assert from_attached is bool(forwarded_addresses(attached(CARLA).as_bytes(), mode))
    assert from_inline is bool(forwarded_addresses(mail(FORWARDS["Gmail"]).as_bytes(), mode))


def test_text_attachments_are_not_read() -> None:
    message = mail("see attached")
    message.add_attachment(f"From: {CARLA}\nSubject: x\n", filename="mail.txt")

    assert forwarded_addresses(message.as_bytes()) == ()


@given(
    st.one_of(
        st.binary(),
        st.lists(st.sampled_from([*FRAGMENTS, f"From: {CARLA}\n", "To: a@b\n", "\n"])).map(
            lambda pieces: "".join(pieces).encode()
        ),
    )
)
def test_no_message_raises(body: bytes) -> None:
    for type_ in (b"text/plain", b"text/html", b"message/rfc822"):
        for found in forwarded_addresses(b"Content-Type: " + type_ + b"\r\n\r\n" + body):
            assert "@" in found.address


@pytest.mark.parametrize("fragment", [*FRAGMENTS, "From: a@b,\n", "To: <", "[mailto:", "[a@", ">To:", "De la\n"])
@pytest.mark.parametrize("type_", ["text/plain", "text/html", "message/rfc822", "text/plain; charset=utf-7"])
def test_the_time_is_bounded(fragment: str, type_: str) -> None:
    raw = f"Content-Type: {type_}\r\n\r\nFrom: a@b\nTo: {repeated(fragment, 1_000_000)}".encode()
    with in_time():
        forwarded_addresses(raw)
