"""Whose mail was forwarded (linking.md L15)."""

import base64
import pickle
from email.message import EmailMessage
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.forward import MAX_FOUND, Found, forwarded_addresses

CARLA = "Carla Client <carla@client.example>"
QUOTED = f"see below\n\n---------- Forwarded message ---------\nVon: {CARLA}\nDate: 1\nTo: <anna@ourco.example>\n"


def mail(body: str, subtype: str = "plain") -> EmailMessage:
    message = EmailMessage()
    message["From"] = "Anna <anna@ourco.example>"
    message["To"] = "ourco@bcc.ourco.example"
    message["Subject"] = "Fwd: question"
    message.set_content(body, subtype=subtype)
    return message


def addresses(message: EmailMessage | bytes) -> list[str]:
    raw = message if isinstance(message, bytes) else message.as_bytes()
    return [found.address for found in forwarded_addresses(raw)]


def test_what_is_found_in_the_text_says_where() -> None:
    place = "quoted header at line 4 of the text (German)"

    assert forwarded_addresses(mail(QUOTED).as_bytes()) == (
        Found("carla@client.example", "inline", f"{place}, From"),
        Found("anna@ourco.example", "inline", f"{place}, To"),
    )


@pytest.mark.parametrize(
    "html",
    [
        "<html><head><style>p {a:b}</style></head><body>see<div><b>From:</b> Carla &lt;"
        '<a href="mailto:carla@client.example">carla@client.example</a>&gt;<br><b>Sent:</b> Sunday<br>'
        "<b>To:</b> <span>anna@ourco.example</span><br><b>Subject:</b> x</div></body></html>",
        "<table><tr><th>Betreff: </th><td>x</td></tr>"
        "<tr><th>Von: </th><td>Carla &lt;carla@client.example&gt;</td></tr>"
        "<tr><th>An: </th><td>anna@ourco.example</td></tr></table>",
        "<p>De&nbsp;: <a href='mailto:carla@client.example?subject=x'>Carla</a></p>"
        "<p>Envoy&eacute;&nbsp;: 1</p><p>&Agrave;&nbsp;: anna@ourco.example</p>",
        "<blockquote type=cite>Begin forwarded message:<br><br><div>From: carla@client.example</div>"
        "<div>To: anna@ourco.example</div></blockquote>",
    ],
)
def test_html_is_read_where_there_is_no_text(html: str) -> None:
    assert addresses(mail(html, "html")) == ["carla@client.example", "anna@ourco.example"]


def test_a_block_in_a_quoted_answer_is_none_in_html_either() -> None:
    html = f"Bob wrote:<blockquote><p>see</p><p>From: {CARLA}<br>Date: 1<br>Subject: x</p></blockquote>"

    assert addresses(mail(html.replace("<carla", "&lt;carla"), "html")) == []


def test_the_text_comes_before_the_html() -> None:
    message = mail(QUOTED)
    message.add_alternative("<p>From: eve@client.example<br>Subject: x</p>", subtype="html")

    assert addresses(message) == ["carla@client.example", "anna@ourco.example"]


def test_html_has_the_addresses_that_the_text_leaves_out() -> None:
    message = mail("From: Carla\nSent: 1\nTo: Anna\nSubject: x\n")
    message.add_alternative(
        "<p>From: <a href='mailto:carla@client.example'>Carla</a><br>Sent: 1<br>To: Anna<br>Subject: x</p>",
        subtype="html",
    )

    place = "quoted header at line 2 of the HTML (English), From"
    assert forwarded_addresses(message.as_bytes()) == (Found("carla@client.example", "inline", place),)


@pytest.mark.parametrize("encoding", ["quoted-printable", "base64", "8bit"])
@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1"])
def test_encoded_bodies_are_read(encoding: str, charset: str) -> None:
    message = mail("x")
    message.set_content(f"Från: Käthe <carla@client.example>\nÄmne: f{'å' * 80}\n", cte=encoding, charset=charset)

    assert addresses(message) == ["carla@client.example"]


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
    found = forwarded_addresses(attached(CARLA, "gina@client.example").as_bytes())

    assert found == (
        Found("carla@client.example", "attached", "attached message 1, From"),
        Found("office@client.example", "attached", "attached message 1, Reply-To"),
        Found("anna@ourco.example", "attached", "attached message 1, To"),
        Found("dan@client.example", "attached", "attached message 1, Cc"),
        Found("gina@client.example", "attached", "attached message 2, From"),
    )


def test_messages_attached_to_attached_messages_count_too() -> None:
    outer = mail("see attached")
    outer.add_attachment(attached("gina@client.example"))

    assert addresses(outer)[:3] == ["anna@ourco.example", "ourco@bcc.ourco.example", "gina@client.example"]


def test_an_attached_message_without_addresses_leaves_the_text_to_be_read() -> None:
    message = mail(QUOTED)
    message.add_attachment(EmailMessage())

    assert addresses(message) == ["carla@client.example", "anna@ourco.example"]


INNER = f"From: {CARLA}\r\nSubject: x\r\n\r\nhello\r\n".encode()


@pytest.mark.parametrize(
    "header",
    [
        "Content-Type: message/rfc822",
        "Content-Type: message/global",
        'Content-Type: application/octet-stream; name="x.eml"',
        "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename=X.EML",
        "Content-Type: application/octet-stream\r\n"
        "Content-Disposition: attachment;\r\n filename*0=\"a long \";\r\n filename*1=subject.eml",
        "Content-Type: application/octet-stream\r\nContent-Disposition: attachment; filename*=utf-8''%C3%A4.eml",
        'Content-Type: application/octet-stream; name="=?utf-8?q?=C3=A4=2Eeml?="',
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["7bit", "base64", "quoted-printable"])
def test_messages_are_attached_in_odd_ways(header: str, encoding: str) -> None:
    body = base64.encodebytes(INNER) if encoding == "base64" else INNER
    head = (
        f"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n{header}\r\nContent-Transfer-Encoding: {encoding}"
    )

    assert addresses(head.encode() + b"\r\n\r\n" + body + b"\r\n--b--\r\n") == ["carla@client.example"]


@pytest.mark.parametrize("name", ["mail.txt", "mail.eml.exe", "eml"])
def test_other_attachments_are_not_read(name: str) -> None:
    message = mail("see attached")
    message.add_attachment(INNER, maintype="application", subtype="octet-stream", filename=name)
    message.add_attachment(f"From: {CARLA}\nSubject: x\n", filename="mail.txt")

    assert addresses(message) == []


@pytest.mark.parametrize(
    ("mode", "from_attached", "from_inline"),
    [("attached+inline", True, True), ("attached", True, False), ("off", False, False)],
)
def test_the_policy_says_where_to_look(
    mode: Literal["attached+inline", "attached", "off"], from_attached: bool, from_inline: bool
) -> None:
    assert from_attached is bool(forwarded_addresses(attached(CARLA).as_bytes(), mode))
    assert from_inline is bool(forwarded_addresses(mail(QUOTED).as_bytes(), mode))


def test_what_is_found_can_be_pickled_and_is_small() -> None:
    """It comes back from a worker process."""
    recipients = ", ".join(f"client{number}@{'long' * 60}.example" for number in range(10_000))
    found = forwarded_addresses(f"Content-Type: message/rfc822\r\n\r\nTo: {recipients}\r\n\r\n".encode())

    assert pickle.loads(pickle.dumps(found)) == found
    assert 0 < len(found) <= MAX_FOUND
    assert len(pickle.dumps(found)) < 1_000_000


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
        for address in addresses(b"Content-Type: " + type_ + b"\r\n\r\n" + body):
            assert "@" in address


@pytest.mark.parametrize(
    "fragment", ["(", "<", "a@b,", "<!--", "From: a@b,\n", "\n", "<a href=mailto:", "<blockquote>"]
)
@pytest.mark.parametrize("type_", ["text/plain", "text/html", "message/rfc822", "text/plain; charset=utf-7"])
def test_the_time_is_bounded(fragment: str, type_: str) -> None:
    raw = f"Content-Type: {type_}\r\n\r\nFrom: a@b\nTo: {repeated(fragment, 1_000_000)}".encode()
    with in_time():
        forwarded_addresses(raw)
