"""The header block of a message: its fields, found by one bounded pass over the lines (RFC 5322, 2.2 and 4.5)."""

import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import NamedTuple

MAX_HEADER = 262_144
"""Bytes of a header block that are looked at."""
MAX_FIELD = 100_000
"""Bytes of a field, its name and folding included (as Postfix has it); the rest of it is ignored."""

_EMPTY_LINE = re.compile(rb"\n\r?\n")
_EMPTY_LINE_OF_CR = re.compile(rb"\r\r(?!\n)")
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
    found = _EMPTY_LINE.search(source, start, end)  # one pattern for both would take three times as long
    sooner = _EMPTY_LINE_OF_CR.search(source, start, found.start() + 1 if found else end)
    return sooner.end() if sooner else found.end() if found else end


def scan(block: bytes, names: Collection[str]) -> list[Field]:
    """The fields of the given names (lower case), in the order of the header.

    Looks at MAX_HEADER bytes up to the first empty line, and at MAX_FIELD bytes a field. Lines that belong to no
    field are passed over; white space before the colon is allowed (RFC 5322, 4.5). Never raises.
    """
    return [Field(*found) for found in _fields(block, names)]


def gather(block: bytes, names: Collection[str]) -> tuple[dict[str, list[bytes]], bytes]:
    """The values that `scan` finds, by name and in the order of the header, and all of its `raw` in one piece."""
    values: dict[str, list[bytes]] = {}
    raws: list[bytes] = []
    for name, value, raw in _fields(block, names):
        if name in values:
            values[name].append(value)
        else:
            values[name] = [value]
        raws.append(raw)
    return values, b"".join(raws)


def _fields(block: bytes, names: Collection[str]) -> list[tuple[str, bytes, bytes]]:
    """Name, value and raw of each field that is asked for."""
    wanted = _wanted(frozenset(names))
    found: list[tuple[str, bytes, bytes]] = []
    block = block[:MAX_HEADER]
    for raw, label, value, folded in _pattern_for(block).findall(block):
        name = wanted.get(label.lower())
        if name is None:
            continue
        if folded:
            value += b"".join(folded.splitlines())
        if len(raw) > MAX_FIELD:
            raw = raw[:MAX_FIELD]
            value = b"".join(raw.splitlines()).partition(b":")[2]
        if raw[-1] not in _LINE_END:
            raw += b"\r\n"
        found.append((name, value, raw))
    return found


def _lines(inner: str, end: str) -> re.Pattern[bytes]:
    """What takes a header block apart, each match beginning where a line does.

    A match is a field with its folded lines, or any other line, or the empty line and all that follows. Groups: the
    field, its name, its first line after the colon, the folded lines; all empty for what is no field. `inner`: what
    is in a line.
    """
    field = rf"(([!-9;-~]++)[ \t]*+:({inner}*+)((?:{end}[ \t]{inner}*+)*+)(?:{end}|\Z))"
    return re.compile(rf"{field}|{inner}++(?:{end}|\Z)|[\r\n](?s:.*+)".encode())


# One character to look for takes less time than two, and mixed line ends are rare.
_CRLF, _LF, _MIXED = _lines(r"[^\r]", r"\r\n"), _lines(r"[^\n]", r"\n"), _lines(r"[^\r\n]", r"(?:\r\n?|\n)")


def _pattern_for(block: bytes) -> re.Pattern[bytes]:
    returns = block.count(b"\r")
    if not returns:
        return _LF
    return _CRLF if returns == block.count(b"\n") == block.count(b"\r\n") else _MIXED


@lru_cache(maxsize=64)
def _wanted(names: frozenset[str]) -> Mapping[bytes, str]:
    """The names as they stand in lower-cased bytes."""
    return {name.encode(): name for name in names if name}
