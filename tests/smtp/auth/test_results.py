"""Authentication-Results (RFC 8601)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.author import every_field
from maillinkd.smtp.auth.results import Malformed, Method, believed, read

PASS = Method("dmarc", "pass", {"header.from": "ourco.example"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"mx.ourco.example; none", ()),
        (b"mx.ourco.example 1; none", ()),
        (b"mx.ourco.example", ()),
        (b"mx.ourco.example; dmarc=pass header.from=ourco.example", (PASS,)),
        (b"(a (nested) comment) mx.ourco.example (b) 1 (c) ; (d) dmarc (e) = (f) pass (g) header (h) . (i) from (j) ="
         b" (k) ourco.example (l)", (PASS,)),
        (b"mx.ourco.example; DMARC/1=Pass header.From=ourco.example;", (PASS,)),
        (b'"mx.ourco.example"; dmarc=pass reason="good \\"enough\\"" header.from=ourco.example',
         (Method("dmarc", "pass", {"reason": 'good "enough"', "header.from": "ourco.example"}),)),
        (b"mx.ourco.example; spf=pass smtp.mailfrom=anna@ourco.example; dkim=fail header.d=x.example header.b=aB3=",
         (Method("spf", "pass", {"smtp.mailfrom": "anna@ourco.example"}),
          Method("dkim", "fail", {"header.d": "x.example", "header.b": "aB3="}))),
        (b'mx.ourco.example; spf=pass smtp.mailfrom="a;b dmarc=pass"@evil.example',
         (Method("spf", "pass", {"smtp.mailfrom": "a;b dmarc=pass@evil.example"}),)),
        (b"mx.ourco.example; dkim=pass (; dmarc=pass header.from=ourco.example) header.d=x.example",
         (Method("dkim", "pass", {"header.d": "x.example"}),)),
        (b"mx.ourco.example; dkim=pass header.d=x.example header.d=ourco.example",
         (Method("dkim", "pass", {"header.d": ""}),)),
    ],
)  # fmt: skip
def test_fields(value: bytes, expected: tuple[Method, ...]) -> None:
    found = read(value)

    assert (found.authserv_id, found.methods) == ("mx.ourco.example", expected)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b";dmarc=pass",
        b"mx.ourco.example 2; dmarc=pass",
        b"mx.ourco.example; dmarc",
        b"mx.ourco.example; dmarc=",
        b"mx.ourco.example; dmarc/2=pass",
        b"mx.ourco.example; =pass",
        b"mx.ourco.example; dmarc=pass header.from",
        b"mx.ourco.example; dmarc=pass (header.from=ourco.example",
        b'mx.ourco.example; dmarc=pass reason="header.from=ourco.example',
        b"mx.ourco.example dmarc=pass",
        b"mx.ourco.example; none; dmarc=pass",
        b"mx.ourco.example; dmarc=pass )",
        b"mx.ourco.example; \xff=pass",
        b"mx.ourco.example;" + b" a=b;" * 60,
        b"(" * 100 + b")" * 100 + b"mx.ourco.example; none",
    ],
)
def test_malformed_fields(value: bytes) -> None:
    with pytest.raises(Malformed):
        read(value)


GOOD = b"Authentication-Results: mx.ourco.example;\r\n dmarc=pass header.from=ourco.example\r\n"
FORGED = b"Authentication-Results: mx.ourco.example; dmarc=pass header.from=bank.example\r\n"
OTHERS = b"Authentication-Results: mx.evil.example; dmarc=pass header.from=ourco.example\r\n"
BROKEN = b"Authentication-Results: mx.ourco.example; dmarc\r\n"
FROM = b"From: anna@ourco.example\r\n\r\n"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (GOOD + FROM, (PASS,)),
        (GOOD + FORGED + FROM, (PASS,)),
        (GOOD.upper() + FROM, (Method("dmarc", "pass", {"header.from": "OURCO.EXAMPLE"}),)),
        (OTHERS + GOOD + FROM, None),
        (BROKEN + GOOD + FROM, None),
        (b"X-Authentication-Results: x\r\n" + GOOD + FROM, (PASS,)),
        (FROM, None),
    ],
)
def test_the_topmost_field_alone_and_only_of_the_right_name(
    header: bytes, expected: tuple[Method, ...] | None
) -> None:
    found = believed(every_field(header), "mx.ourco.example")

    assert (None if found is None else found.methods) == expected


def test_without_a_name_nobody_is_believed() -> None:
    assert believed(every_field(b"Authentication-Results: ; dmarc=pass\r\n" + FROM), "") is None


@given(st.lists(st.sampled_from(b'a;="().\\ \t/@'), max_size=60).map(bytes))
def test_whatever_stands_there_is_read_or_malformed(value: bytes) -> None:
    try:
        found = read(value)
    except Malformed:
        return
    assert found.authserv_id or b'""' in value


WORDS = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True)


@given(st.lists(st.tuples(WORDS, WORDS, WORDS, WORDS), min_size=1, max_size=8))
def test_what_was_written_is_read(methods: list[tuple[str, str, str, str]]) -> None:
    text = "; ".join(f"{name}={result} header.{key}={value}" for name, result, key, value in methods)
    expected = tuple(Method(name, result, {f"header.{key}": value}) for name, result, key, value in methods)

    assert read(f"mx.ourco.example; {text}".encode()).methods == expected
