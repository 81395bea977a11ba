"""The author of a mail, read strictly: what disguises him is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.author import Disguised, author_of, every_field, repeated
from maillinkd.mail.header import MAX_FIELD, MAX_HEADER

ANNA = "anna@ourco.example"


def author(header: bytes) -> str:
    return author_of(every_field(header))


@pytest.mark.parametrize(
    "value",
    [
        "anna@ourco.example",
        "<anna@ourco.example>",
        "Anna <anna@ourco.example>",
        "Anna <ANNA@OurCo.Example>",
        '"Anna, of Our Co." <anna@ourco.example>',
        '"anna@ourco.example" <anna@ourco.example>',
        "\"'anna@ourco.example'\" <anna@ourco.example>",
        "anna@ourco.example (Anna)",
        "=?utf-8?q?=C3=84nna?= <anna@ourco.example>",
        "Änna <anna@ourco.example>",
        "Anna\r\n of Our Co\r\n\t<anna@ourco.example>",
        "  anna@ourco.example  ",
    ],
)
def test_plain_authors(value: str) -> None:
    assert author(f"Subject: x\r\nFrom: {value}\r\n\r\n".encode()) == ANNA


@pytest.mark.parametrize(
    "value",
    [
        "",
        "anna",
        "anna@ourco.example, ben@ourco.example",
        "anna@ourco.example ben@ourco.example",
        "Anna <anna@ourco.example>, Ben <ben@ourco.example>",
        "Anna <anna@ourco.example> <ben@ourco.example>",
        "Friends: anna@ourco.example;",
        "Friends:;",
        "<@relay.example:anna@ourco.example>",
        '"anna@ourco.example" <x@evil.example>',
        "anna@ourco.example <x@evil.example>",
        "=?utf-8?q?anna=40ourco.example?= <x@evil.example>",
        "anna\uff20ourco.example <x@evil.example>",
        "x@evil.example (anna@ourco.example)",
        "anna@ourco.example(x@evil.example)",
        "anna@ourco.example\0@evil.example",
        "=?utf-8?q?anna?=@ourco.example",
        "<=?utf-8?q?anna=40ourco.example?=@evil.example>",
        '"anna@ourco.example> "@evil.example',
        "anna(comment)@ourco.example",
        "anna@ourco.example.",
        "anna@[192.0.2.1]",
        "anna@ourco",
        "anna@our\uff43o.example",
        "anna@ourco\u3002example",
        "\u212aarl@ourco.example",
        "<anna@ourco.example",
        "anna@ourco.example>",
        "Anna \\<anna@ourco.example>",
        "a" * 3_000 + " <anna@ourco.example>",
    ],
)
def test_disguised_authors(value: str) -> None:
    with pytest.raises(Disguised):
        author(f"From: {value}\r\n\r\n".encode())


def test_a_name_in_another_script_is_another_name() -> None:
    assert author("From: \u0430nna@ourco.example\r\n\r\n".encode()) == "\u0430nna@ourco.example" != ANNA


def test_an_international_domain_counts_in_its_one_form() -> None:
    assert author("From: anna@bücher.example\r\n\r\n".encode()) == "anna@xn--bcher-kva.example"


@pytest.mark.parametrize(
    "header",
    [
        b"From: anna@ourco.example\r\nFrom: ben@ourco.example\r\n\r\n",
        b"From: anna@ourco.example\r\nFROM : anna@ourco.example\r\n\r\n",
        b"Subject: x\r\n\r\nFrom: anna@ourco.example\r\n\r\n",
        b"From: anna@ourco.example\r\nno field\r\nFrom: ben@ourco.example\r\n\r\n",
        b"From anna@ourco.example Sun Mar  1 10:00:00 2026\r\nFrom: anna@ourco.example\r\n\r\n",
        b" From: anna@ourco.example\r\n\r\n",
        b"From: anna@ourco.example\nX: y\r\n\r\n",
        b"From: anna@ourco.example\rFrom: ben@ourco.example\r\n\r\n",
        b"From: anna@ourco.example\r\nX: \0\r\n\r\n",
        b"Fr\xc3\xb6m: x\r\nFrom: anna@ourco.example\r\n\r\n",
        b"From: \xff <anna@ourco.example>\r\n\r\n",
        b"From: anna@ourco.example\r\nX: " + b"y" * MAX_FIELD + b"\r\n\r\n",
        b"From: anna@ourco.example\r\n" + b"X: y\r\n" * (MAX_HEADER // 5) + b"\r\n",
        b"\r\n\r\n",
        b"",
    ],
)
def test_headers_that_could_be_read_in_two_ways(header: bytes) -> None:
    with pytest.raises(Disguised):
        author(header)


def test_what_stands_twice() -> None:
    fields = every_field(b"From: a@x.example\r\nReceived: 1\r\nReceived: 2\r\nSubject: 1\r\nsubject: 2\r\n\r\n")

    assert repeated(fields) == "subject"
    assert repeated(fields[:4]) is None


@given(st.lists(st.sampled_from([*'a@.<>"(),:;= \\=?\u00e9', "ourco.example", "=?utf-8?q?a?="]), max_size=30))
def test_whatever_stands_in_from_there_is_one_address_or_none(parts: list[str]) -> None:
    try:
        found = author(f"From: {''.join(parts)}\r\n\r\n".encode())
    except Disguised:
        return
    assert found.count("@") == 1
    assert not set(found) & set('<>"(),:; \\')


def test_long_names_take_little_time() -> None:
    for part in ('"', "(", "a@", "\\", "=?", '"a" ', "a."):
        with pytest.raises(Disguised):
            author(f"From: {part * (1_900 // len(part))} <x\r\n\r\n".encode())
