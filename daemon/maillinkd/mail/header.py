"""The header block of a message: its fields, found by one bounded walk over the lines (RFC 5322, 2.2 and 4.5)."""

import re
from collections.abc import Collection
from typing import NamedTuple

MAX_HEADER = 262_144
"""Bytes of a header block that are looked at."""
MAX_FIELD = 100_000
"""Bytes of a field, its name and folding included (as Postfix has it); the rest of it is ignored."""

_END = re.compile(rb"\r\n\r\n|\n\r?\n|\r\r(?!\n)")
_BLANK = b" \t"
_LINE_END = b"\r\n"


class Field(NamedTuple):
    """One header field."""

    name: str
    """In lower case."""
    value: bytes
    """What follows the colon, unfolded: without line ends, otherwise as it came."""
    raw: bytes
    """The field as it came, with its name, folding and last line end."""


def split(raw: bytes) -> tuple[bytes, bytes]:
    """A message's header block, with the empty line that ends it, and its body.

    CRLF, LF and bare CR all end a line. Without an empty line everything is header.
    """
    start = body_start(raw, 0, len(raw))
    return raw[:start], raw[start:]


def body_start(source: bytes, start: int, end: int) -> int:
    """Where the body begins of a message that lies in source[start:end]; `end` if nothing separates it."""
    if source[start : min(end, start + 1)] == b"\n":
        return start + 1
    if source[start : min(end, start + 2)] == b"\r\n":
        return start + 2
    found = _END.search(source, start, end)
    return found.end() if found else end


def scan(block: bytes, names: Collection[str]) -> list[Field]:
    """The fields of the given names (lower case), in the order of the header.

    Looks at MAX_HEADER bytes up to the first empty line, and at MAX_FIELD bytes a field. Lines that belong to no
    field are passed over; white space before the colon is allowed (RFC 5322, 4.5). Never raises.
    """
    fields: list[Field] = []
    name, lines = "", list[bytes]()
    for line in block[:MAX_HEADER].splitlines(keepends=True):
        if line[0] in _BLANK:
            if name:
                lines.append(line)
            continue
        if name:
            fields.append(_field(name, lines))
        if line[0] in _LINE_END:
            return fields
        label, colon, _ = line.partition(b":")
        name = label.rstrip(_BLANK).lower().decode("latin-1") if colon else ""
        if name in names:
            lines = [line]
        else:
            name = ""
    if name:
        fields.append(_field(name, lines))
    return fields


def _field(name: str, lines: list[bytes]) -> Field:
    if len(lines) == 1 and len(lines[0]) <= MAX_FIELD:
        raw = lines[0]
        value = raw.rstrip(_LINE_END)
    else:
        raw = b"".join(lines)[:MAX_FIELD]
        value = b"".join(raw.splitlines())
    if raw[-1] not in _LINE_END:
        raw += b"\r\n"
    return Field(name, value.partition(b":")[2], raw)
