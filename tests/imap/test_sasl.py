"""SASL messages to the octet, and what a refusal says."""

from base64 import b64encode

import pytest

from maillinkd.imap import sasl


def test_the_messages_are_those_of_the_documents() -> None:
    """RFC 7628, 4.1; Google's and Microsoft's documents of XOAUTH2."""
    assert sasl.plain(b"anna", b"se cret") == b"\0anna\0se cret"
    assert sasl.bearer("XOAUTH2", b"someuser@example.com", "ya29.vF9dft4", "h", 1) == (
        b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4\x01\x01"
    )
    assert sasl.bearer("OAUTHBEARER", b"user@example.com", "vF9dft4qmT", "server.example.com", 143) == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01auth=Bearer vF9dft4qmT\x01\x01"
    )


def test_a_name_with_comma_or_equals_is_escaped_as_a_saslname() -> None:
    message = sasl.bearer("OAUTHBEARER", "zoë,a=b".encode(), "t", "h", 1)

    assert message.startswith("n,a=zoë=2Ca=3Db,\x01".encode())


@pytest.mark.parametrize(
    ("challenge", "said"),
    [
        (
            b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}',
            "status 400, scope https://mail.google.com/",
        ),
        (b'{"status":"invalid_token","openid-configuration":"https://x"}', "status invalid_token"),
        (b'{"status":401}', "status 401"),
        (b'{"status":"a\\r\\nb\\u001b"}', "status a  b "),
        (b'{"status":["x"]}', ""),
        (b'"text"', ""),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_the_reason_of_a_refusal_is_read_where_it_can_be(challenge: bytes, said: str) -> None:
    assert sasl.reason(b64encode(challenge)) == said


@pytest.mark.parametrize("challenge", [b"!!!", b"e", b"=", "é".encode()])
def test_what_is_no_base64_has_no_reason(challenge: bytes) -> None:
    assert sasl.reason(challenge) == ""
