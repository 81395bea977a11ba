"""The header block and its fields (RFC 5322, 2.2 and 4.5)."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import in_time
from maillinkd.mail.header import MAX_FIELD, MAX_HEADER, Field, body_start, gather, scan, split

lines = st.sampled_from([b"To: a@b", b" c", b"\t", b"To : d", b"junk", b"Cc:e", b"X: f", b":", b"\xff:", b""])
blocks = st.lists(st.tuples(lines, st.sampled_from([b"\r\n", b"\n", b"\r"]))).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


@pytest.mark.parametrize(
    ("raw", "header", "body"),
    [
        (b"A: b\r\n\r\nbody", b"A: b\r\n\r\n", b"body"),
        (b"A: b\n\nbody\n\nmore", b"A: b\n\n", b"body\n\nmore"),
        (b"A: b\r\rbody", b"A: b\r\r", b"body"),
        (b"A: b\n\r\nbody", b"A: b\n\r\n", b"body"),
        (b"\r\nbody", b"\r\n", b"body"),
        (b"\nbody", b"\n", b"body"),
        (b"A: b\r\n", b"A: b\r\n", b""),
        (b"", b"", b""),
    ],
)
def test_a_message_is_split_at_its_first_empty_line(raw: bytes, header: bytes, body: bytes) -> None:
    assert (header, body) == split(raw)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a"])).map(b"".join), st.integers(0, 4), st.integers(0, 4))
def test_the_first_empty_line_is_that_of_one_pattern(source: bytes, before: int, after: int) -> None:
    start, end = before, max(before, len(source) - after)
    one = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r(?!\n)").search(source, start, end)
    begins_with_one = re.compile(rb"\r?\n").match(source, start, end)

    found = begins_with_one or one
    assert body_start(source, start, end) == (found.end() if found else end)


@given(st.one_of(st.binary(), blocks))
def test_splitting_loses_no_byte(raw: bytes) -> None:
    assert raw == b"".join(split(raw))


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"To: a@b\r\nX: y\r\nCC:c\r\n\r\n", [("to", b" a@b"), ("cc", b"c")]),
        (b"To: a,\r\n\tb,\r\n c\r\n", [("to", b" a,\tb, c")]),
        (b"To: a\nCc: b\rTo: c", [("to", b" a"), ("cc", b" b"), ("to", b" c")]),
        (b"To : a\r\n", [("to", b" a")]),
        (b"TO\t:a\r\n", [("to", b"a")]),
        (b"From x@y Mon\r\nTo: a\r\n", [("to", b" a")]),
        (b"To: a\r\njunk\r\n of it\r\nCc: b\r\n", [("to", b" a"), ("cc", b" b")]),
        (b"X: y\r\n To: z\r\nTo: a\r\n", [("to", b" a")]),
        (b"To: a\r\n \r\n b\r\n", [("to", b" a  b")]),
        (b"To: a\r\n\r\nCc: body\r\n", [("to", b" a")]),
        (b" To: a\r\n", []),
        (b"To:\r\n", [("to", b"")]),
        (b"\r\nTo: a\r\n", []),
        (b"", []),
    ],
)
def test_fields_are_found_and_unfolded(block: bytes, expected: list[tuple[str, bytes]]) -> None:
    assert expected == [(field.name, field.value) for field in scan(block, {"to", "cc"})]


@given(st.one_of(st.binary(), blocks))
def test_what_was_kept_raw_reads_the_same_again(block: bytes) -> None:
    names = {"to", "cc"}
    fields = scan(block, names)

    assert fields == scan(b"".join(field.raw for field in fields), names)


def walked(block: bytes, names: set[str]) -> list[Field]:
    """What `scan` finds, said line by line."""
    fields: list[tuple[str, list[bytes]]] = []
    for line in block[:MAX_HEADER].splitlines(keepends=True):
        if line[:1] in (b"\r", b"\n"):
            break
        if line[:1] in (b" ", b"\t"):
            if fields:
                fields[-1][1].append(line)
            continue
        label, colon, _ = line.partition(b":")
        fields.append((label.rstrip(b" \t").lower().decode("latin-1") if colon else "", [line]))
    raws = [(name, b"".join(lines)[:MAX_FIELD]) for name, lines in fields if name in names]
    return [
        Field(name, b"".join(raw.splitlines()).partition(b":")[2], raw if raw[-1] in b"\r\n" else raw + b"\r\n")
        for name, raw in raws
    ]


pieces = st.sampled_from(
    [
        b"To: a@b",
        b"To",
        b"Cc \t:",
        b"cC:",
        b"X-To: d",
        b":",
        b" ",
        b"\t",
        b"\r",
        b"\n",
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"\xe4",
    ]
)


texts = st.one_of(st.lists(pieces).map(b"".join), blocks)
lf_alone = texts.map(lambda block: block.replace(b"\r", b""))
crlf_alone = lf_alone.map(lambda block: block.replace(b"\n", b"\r\n"))


@given(st.one_of(texts, lf_alone, crlf_alone, st.binary()))
def test_the_fields_are_those_of_a_walk_over_the_lines(block: bytes) -> None:
    expected = walked(block, {"to", "cc"})

    assert expected == scan(block, {"to", "cc"})
    assert b"".join(field.raw for field in expected) == gather(block, {"to", "cc"})[1]


@given(
    st.sampled_from([b"To:", b"X:", b"To:\r\n ", b"To: a\r\nCc:", b"To: a\nCc:"]),
    st.sampled_from([MAX_FIELD, MAX_HEADER]),
    st.integers(-20, 5),
    st.sampled_from([b"", b"\r", b"\n", b"\r\n", b"\r\n b\r\n", b"\nCc: c\n"]),
)
def test_at_its_bounds_too(start: bytes, bound: int, more: int, end: bytes) -> None:
    block = start + b"a" * (bound - len(start) + more) + end

    assert walked(block, {"to", "cc"}) == scan(block, {"to", "cc"})


@given(blocks)
def test_values_are_gathered_by_name(block: bytes) -> None:
    fields = scan(block, {"to", "cc"})
    values, _ = gather(block, {"to", "cc"})

    assert {name: [each.value for each in fields if each.name == name] for name in values} == values
    assert {each.name for each in fields} == values.keys()


def test_long_fields_and_long_headers_are_cut() -> None:
    long_field = b"To: " + b"a" * 2 * MAX_FIELD + b"\r\nCc: b\r\n"
    beyond = b"X: y\r\n" * (MAX_HEADER // 6 + 1) + b"To: a\r\n"

    assert [MAX_FIELD - len("To:"), len(" b")] == [len(field.value) for field in scan(long_field, {"to", "cc"})]
    assert scan(beyond, {"to"}) == []


@pytest.mark.parametrize("fragment", [b"\n ", b" \n", b"To:\n", b"To: a\n b\n", b"\r", b"a", b":", b"a:\n"])
def test_the_time_is_bounded(fragment: bytes) -> None:
    with in_time():
        scan(b"To: a\r\n" + fragment * (8_000_000 // len(fragment)), {"to"})
