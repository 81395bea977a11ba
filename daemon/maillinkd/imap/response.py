"""Server bytes to responses, as they arrive (RFC 9051 and RFC 3501, section 9).

A `Parser` is fed whatever a read brought, in pieces of any size, and gives back the responses that are complete. What
comes out does not depend on how the bytes were cut. Nothing here recurses, every byte is looked at a bounded number
of times, and lines, literals, nesting and lists have limits, because the other end may be anybody (traps.md I1, I5,
I6, I11, I12).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from io import BytesIO
from typing import NamedTuple, TypeAlias

Value: TypeAlias = "str | bytes | int | tuple[Value, ...] | None"
"""An atom is a str, a quoted string or literal is bytes, NIL is None, a parenthesised list is a tuple.

A number is a str too, but UID and RFC822.SIZE of a FETCH, which are int.
"""


class ProtocolError(Exception):
    """The server sent what no IMAP server may send, or more than we take. The connection is of no further use."""

    def __init__(self, message: str, before: "tuple[Response, ...]" = ()) -> None:
        super().__init__(message)
        self.before = before
        """The responses that stood complete before the error in the bytes that were fed."""


class TooLarge(ProtocolError):
    """A line, literal, list or nesting beyond the limits."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much the parser takes from a server. Bytes, unless it says otherwise."""

    line: int = 16 * 1024 * 1024
    """Text between two line ends. A SEARCH answer of a million messages is one line of about 8 MB."""
    literals: int = 64 * 1024 * 1024
    """All literals of one response together."""
    depth: int = 32
    """Parentheses within parentheses."""
    values: int = 100_000
    """Atoms, strings and lists in one response (SEARCH, which is only numbers, is bounded by `line`)."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """`+ text`: the server waits for more of the command (RFC 9051, 7.6)."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Status:
    """OK, NO, BAD, BYE or PREAUTH, tagged or not (RFC 9051, 7.1)."""

    tag: str
    """"" for an untagged one."""
    condition: str
    code: str
    """The response code's name in capitals, "" if there is none."""
    argument: str
    """What follows the code's name inside the brackets, as it stands there."""
    text: str

    @property
    def number(self) -> int | None:
        """The argument as a number (UIDVALIDITY, UIDNEXT), None if it is none."""
        return int(self.argument) if _NUMBER.fullmatch(self.argument) else None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """CAPABILITY, names in capitals (RFC 9051, 7.2.2)."""

    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Listed:
    """LIST or LSUB: one mailbox (RFC 9051, 7.3.1; attributes of RFC 6154 among them)."""

    attributes: frozenset[str]
    """In lower case, with their backslash."""
    delimiter: str
    """"" where the server has no hierarchy."""
    name: bytes
    """As the server spells it, that is in modified UTF-7."""


@dataclass(frozen=True, slots=True)
class Search:
    """SEARCH: message numbers or UIDs (RFC 3501, 7.2.5)."""

    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ExtendedSearch:
    """ESEARCH (RFC 4731, RFC 9051, 7.3.4)."""

    tag: str
    uid: bool
    items: Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class MailboxStatus:
    """STATUS: numbers of one mailbox (RFC 9051, 7.3.2)."""

    name: bytes
    items: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Flags:
    """FLAGS: the flags that the mailbox knows (RFC 9051, 7.3.5)."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exists:
    """How many messages the mailbox has (RFC 9051, 7.4.1)."""

    count: int


@dataclass(frozen=True, slots=True)
class Expunged:
    """A message is gone, those after it move up by one (RFC 9051, 7.5.1)."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Vanished:
    """UIDs of messages that are gone, as ranges with both ends (RFC 7162, 3.2.10)."""

    earlier: bool
    """True: before the mailbox was opened, in answer to a command; so no message number changes."""
    ranges: tuple[tuple[int, int], ...]
    """May name UIDs that never were."""


class Fetch(NamedTuple):
    """FETCH: attributes of one message (RFC 9051, 7.5.2). A tuple, for there is one for each message."""

    sequence: int
    items: Mapping[str, Value]
    """By name in capitals; a section by `attribute_name`, for instance "BODY[HEADER.FIELDS]" or "BODY[]<0>"."""

    @property
    def uid(self) -> int | None:
        """None where the server sent none: an announcement of changed flags, for instance."""
        value = self.items.get("UID")
        return value if isinstance(value, int) else None

    @property
    def size(self) -> int:
        """RFC822.SIZE; 0 where the server sent none."""
        value = self.items.get("RFC822.SIZE")
        return value if isinstance(value, int) else 0

    def bytes_of(self, name: str) -> bytes | None:
        """The string under a name, None if the server sent NIL or nothing."""
        value = self.items.get(name)
        if isinstance(value, bytes):
            return value
        return value.encode("latin-1") if isinstance(value, str) else None


@dataclass(frozen=True, slots=True)
class ServerId:
    """ID: what the server says of itself (RFC 2971, 3.2), names in lower case."""

    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Other:
    """A response that we do not know or do not use: RECENT, NAMESPACE, extensions to come."""

    name: str


Response: TypeAlias = (
    Continuation
    | Status
    | Capabilities
    | Listed
    | Search
    | ExtendedSearch
    | MailboxStatus
    | Flags
    | Exists
    | Expunged
    | Vanished
    | Fetch
    | ServerId
    | Other
)

_NUMBER = re.compile(r"[0-9]{1,20}")
_STATUS = re.compile(
    rb'(?:\*|([^\x00-\x20\x7f"(){%*+\\]{1,64})) (OK|NO|BAD|BYE|PREAUTH)(?: (.*))?', re.IGNORECASE | re.DOTALL
)
_CODE = re.compile(rb'\[([^\x00-\x20"\[\]]+)(?: ((?:[^"\]]|"(?:[^"\\]|\\.)*+")*+))?\] ?(.*)', re.DOTALL)
_DATA = re.compile(rb"\* (?:([0-9]{1,20}) )?([^\x00-\x20(){\"\x7f]{1,64})(?: |(?=\()|\Z)")
_SEARCH = re.compile(rb"((?: *[0-9]{1,20}(?![0-9]))*+) *(?:\(MODSEQ [0-9]{1,20}\))? *", re.IGNORECASE)
_LITERAL_AT_END = re.compile(rb"~?\{([0-9]{1,20})\+?\}\Z")
_TOKEN = re.compile(
    rb" *+(?:"
    rb"(\()"
    rb"|(\))"
    rb'|"([^"\\]*+(?:\\[\s\S][^"\\]*+)*+)"'
    rb"|~?\{([0-9]{1,20})\+?\}\Z"
    rb'|((?:BODY|BINARY)(?:\.[A-Z]+)?\[(?:[^"\]]|"[^"\\]*+(?:\\[\s\S][^"\\]*+)*+")*+\](?:<[0-9.]+>)?'
    rb'|[^\x00-\x20()"{]++(?:\{(?![0-9]{1,20}\+?\}\Z)[^\x00-\x20()"{]*+)*+)'
    rb"|([\s\S]))",
    re.IGNORECASE,
)
_USUAL_FETCH = re.compile(
    rb"\* ([0-9]{1,20}) FETCH \("
    rb'(?:(?:UID ([0-9]{1,20})|RFC822\.SIZE ([0-9]{1,20})|INTERNALDATE "([^"\\\r\n]{0,40})")(?: |(?=\)))){1,3}'
)
_USUAL_SECTION = re.compile(rb"(BODY\[(?:HEADER\.FIELDS \([A-Za-z0-9 -]{1,4000}\))?\](?:<[0-9]{1,20}>)?) \{")
_LENGTH_MOST = len(b"12345678901234567890}\r\n")
_NUMBERS = frozenset({"UID", "RFC822.SIZE"})
"""The attributes of a FETCH that are numbers, and are used as such."""
_CR, _LF = 0x0D, 0x0A
_OPEN, _CLOSE, _QUOTED, _LITERAL, _ATOM = 1, 2, 3, 4, 5
_ESCAPED = re.compile(rb"\\([\s\S])")


def number(value: Value) -> int:
    """A number of the grammar, at most 20 digits. Raises ProtocolError."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    raise ProtocolError("a number was expected")


@lru_cache(maxsize=256)
def attribute_name(atom: str) -> str:
    """A FETCH attribute's name in capitals, its list of header fields left out, its origin octet kept.

    >>> attribute_name("body[header.fields (From To)]<0>")
    'BODY[HEADER.FIELDS]<0>'
    """
    name, bracket, section = atom.upper().partition("[")
    if not bracket:
        return name
    text, _, origin = section.rpartition("]")
    return f"{name}[{text.split(' ', 1)[0]}]{origin}"


class _Building:
    """A response of which literals are still to come: its values so far, and the lists that are open."""

    __slots__ = ("begins", "count", "literals", "name", "number", "open", "plain")

    def __init__(self, name: str, number: int | None, *, plain: bool, begins: int = 0) -> None:
        self.name = name
        self.number = number
        self.plain = plain
        """The response is unknown: only its literals are looked for, its values are nobody's business."""
        self.begins = begins
        """Where its values begin in its first line."""
        self.open: list[list[Value]] = [[]]
        self.count = 0
        self.literals = 0


class Parser:
    """Turns the bytes of one connection into responses. Once it has raised ProtocolError it raises it again."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._line = bytearray()
        """The beginning of a line whose end has not come yet."""
        self._literal: BytesIO | None = None
        """The beginning of a literal whose end has not come yet: gives its bytes away without another copy."""
        self._missing = 0
        """Bytes of the literal that are still to come; while there are any, `_line` is empty."""
        self._building: _Building | None = None
        self._section = b"\0"
        """The section that the last usual FETCH had, up to its length; at first what no server sends."""
        self._section_name = ""
        self._error: ProtocolError | None = None

    @property
    def idle(self) -> bool:
        """Nothing is begun and unfinished: every byte fed so far belongs to a response that was given back."""
        return not (self._line or self._missing or self._building)

    def feed(self, data: bytes) -> list[Response]:
        """Takes what a read brought, gives back the responses that it completes.

        Raises ProtocolError for what the grammar or the limits forbid; what was complete before is in its `before`.
        """
        if self._error is not None:
            raise ProtocolError(str(self._error))
        responses: list[Response] = []
        try:
            self._take(data, responses)
        except ProtocolError as error:
            self._error = error
            error.before = tuple(responses)
            raise
        return responses

    def _take(self, data: bytes, responses: list[Response]) -> None:
        position, size = 0, len(data)
        while position < size:
            if self._missing:
                position = self._take_literal(data, position)
                continue
            if not self._line and self._building is None:
                after = self._take_usual(data, position, responses)
                if after > position:
                    position = after
                    continue
            if self._line and self._line[-1] == _CR and data[position] == _LF:
                del self._line[-1]
                end = position
                after = position + 1
            else:
                end = data.find(b"\r\n", position)
                after = end + 2
            if end < 0:
                self._keep(data, position)
                return
            line = self._complete_line(data, position, end)
            position = after
            self._take_line(line, responses)

    def _take_usual(self, data: bytes, position: int, responses: list[Response]) -> int:
        """A FETCH as nearly all are: numbers, a date, then perhaps a body as a literal. Where to go on.

        The same comes out as by the grammar, at a fifth of the cost. Goes nowhere where it is another response.
        """
        usual = _USUAL_FETCH.match(data, position)
        if usual is None:
            return position
        sequence, uid, size, date = usual.groups()
        items: dict[str, Value] = {}
        if uid is not None:
            items["UID"] = int(uid)
        if size is not None:
            items["RFC822.SIZE"] = int(size)
        if date is not None:
            items["INTERNALDATE"] = date
        at = usual.end()
        if data.startswith(b")\r\n", at):
            if at + 3 - position > self._limits.line:
                return position
            responses.append(Fetch(int(sequence), items))
            return at + 3
        if not data.startswith(self._section, at):  # hundreds of bytes, and the same in each answer
            section = _USUAL_SECTION.match(data, at)
            if section is None:
                return position
            self._section, self._section_name = section[0], attribute_name(section[1].decode("ascii"))
        at += len(self._section)
        close = data.find(b"}\r\n", at, at + _LENGTH_MOST)
        length = data[at:close]
        begin = close + 3
        if close < 0 or not length.isdigit() or begin - position > self._limits.line:
            return position
        end = begin + int(length)
        if end - begin <= self._limits.literals and data.startswith(b")\r\n", end):
            items[self._section_name] = data[begin:end]
            responses.append(Fetch(int(sequence), items))
            return end + 3
        building = _Building("FETCH", int(sequence), plain=False)
        building.open.append([*(value for item in items.items() for value in item), self._section_name])
        building.count = 2 * len(items) + 3  # as the grammar counts: the list, names and values, the literal
        self._expect(building, end - begin)
        return begin

    def _take_literal(self, data: bytes, position: int) -> int:
        end = position + self._missing
        if self._literal is None:
            if end <= len(data):
                self._end_literal(data[position:end])
                return end
            self._literal = BytesIO()
        taken = self._literal.write(memoryview(data)[position:end])
        self._missing -= taken
        if not self._missing:
            self._end_literal(self._literal.getvalue())
        return position + taken

    def _end_literal(self, value: bytes) -> None:
        self._missing = 0
        self._literal = None
        if self._building is not None and not self._building.plain:
            self._building.open[-1].append(value)

    def _keep(self, data: bytes, position: int) -> None:
        self._line += data[position:]
        if len(self._line) - (self._line[-1] == _CR) > self._limits.line:
            raise TooLarge(f"a line of more than {self._limits.line} bytes")

    def _complete_line(self, data: bytes, position: int, end: int) -> bytes:
        if self._line:
            self._line += data[position:end]
            line = bytes(self._line)
            self._line = bytearray()
        else:
            line = data[position:end]
        if len(line) > self._limits.line:
            raise TooLarge(f"a line of more than {self._limits.line} bytes")
        return line

    def _take_line(self, line: bytes, responses: list[Response]) -> None:
        building = self._building
        if building is None:
            begun = self._begin(line)
            if not isinstance(begun, _Building):
                if begun is not None:
                    responses.append(begun)
                return
            building, position = begun, begun.begins
        else:
            position = 0
        literal = _scan(line, building) if building.plain else _tokenise(line, position, building, self._limits)
        if literal is None:
            self._building = None
            responses.append(_finish(building))
            return
        self._expect(building, literal)

    def _expect(self, building: _Building, literal: int) -> None:
        """A literal is to come."""
        building.literals += literal
        if building.literals > self._limits.literals:
            raise TooLarge(f"literals of more than {self._limits.literals} bytes in one response")
        self._building = building
        if literal:
            self._missing = literal
        else:
            self._end_literal(b"")

    def _begin(self, line: bytes) -> "Response | _Building | None":
        """A response that ends with this line, or one that is to be taken apart; None: nothing."""
        if not line:
            return None  # some servers send an empty line too many
        if line.startswith(b"+"):
            return Continuation(line[2:])
        # First the responses that end in free text, for "{5}" at the end of a text announces nothing.
        if status := _STATUS.fullmatch(line):
            return _status(status)
        data = _DATA.match(line)
        if data is None:
            raise ProtocolError("neither a response nor the answer to a command")
        name = data[2].decode("latin-1").upper()
        counted = int(data[1]) if data[1] else None
        if name == "SEARCH" and counted is None:
            return _search(line, data.end(2))
        return _Building(name, counted, plain=name not in _KNOWN, begins=data.end(2))


def _status(match: re.Match[bytes]) -> Status:
    tag, condition, rest = match.groups()
    code = argument = b""
    text = rest or b""
    if bracketed := _CODE.fullmatch(text):
        code, argument, text = bracketed[1], bracketed[2] or b"", bracketed[3]
    return Status(
        (tag or b"").decode("latin-1"),
        condition.decode("ascii").upper(),
        code.decode("latin-1").upper(),
        argument.decode("latin-1"),
        text.decode("utf-8", "replace"),
    )


def _search(line: bytes, position: int) -> Search:
    match = _SEARCH.fullmatch(line, position)
    if match is None:
        raise ProtocolError("SEARCH with something that is not a number")
    return Search(tuple(map(int, match[1].split())))


def _scan(line: bytes, building: _Building) -> int | None:
    """How long the literal is that an unknown response announces at the end of this line, None if none."""
    match = _LITERAL_AT_END.search(line, max(0, len(line) - 24))
    building.count += 1
    return int(match[1]) if match else None


def _tokenise(line: bytes, position: int, building: _Building, limits: Limits) -> int | None:
    """Adds the values of a piece of a response; how long the literal is that follows it, None if it ends here."""
    stack = building.open
    into = stack[-1]
    count = building.count
    for token in _TOKEN.finditer(line, position):
        kind = token.lastindex
        count += 1
        if kind == _ATOM:
            atom = token[_ATOM].decode("latin-1")
            into.append(None if atom == "NIL" or atom == "nil" else atom)
        elif kind == _QUOTED:
            quoted = token[_QUOTED]
            into.append(_ESCAPED.sub(rb"\1", quoted) if b"\\" in quoted else quoted)
        elif kind == _OPEN:
            if len(stack) > limits.depth:
                raise TooLarge(f"lists nested more than {limits.depth} deep")
            into = []
            stack.append(into)
        elif kind == _CLOSE:
            if len(stack) == 1:
                raise ProtocolError("a closing parenthesis without an opening one")
            closed = tuple(stack.pop())
            into = stack[-1]
            into.append(closed)
        elif kind == _LITERAL:
            building.count = count
            return int(token[_LITERAL])
        else:
            raise ProtocolError(f"byte {line[token.end() - 1]:#04x} where a value was expected")
        if count > limits.values:
            raise TooLarge(f"more than {limits.values} values in one response")
    building.count = count
    return None


def _finish(building: _Building) -> Response:
    if building.plain:
        return Other(building.name)
    if len(building.open) != 1:
        raise ProtocolError(f"{building.name} ends inside a list")
    values = building.open[0]
    try:
        return _KNOWN[building.name](building.number, values)
    except (ValueError, TypeError, IndexError, AttributeError):
        raise ProtocolError(f"{building.name} that does not follow the grammar") from None


def _required(counted: int | None) -> int:
    if counted is None:
        raise ValueError
    return counted


def _fetch(counted: int | None, values: list[Value]) -> Response:
    (items,) = values
    if not isinstance(items, tuple) or len(items) % 2:
        raise ValueError
    named: dict[str, Value] = {}
    for at in range(0, len(items), 2):
        name = items[at]
        if not isinstance(name, str):
            raise TypeError
        name, value = attribute_name(name), items[at + 1]
        named[name] = number(value) if name in _NUMBERS and value is not None else value
    return Fetch(_required(counted), named)


def _exists(counted: int | None, values: list[Value]) -> Response:
    return Exists(_required(counted))


def _expunged(counted: int | None, values: list[Value]) -> Response:
    return Expunged(_required(counted))


def _vanished(counted: int | None, values: list[Value]) -> Response:
    *marks, uids = values
    earlier = any(isinstance(mark, tuple) and "EARLIER" in map(_word, mark) for mark in marks)
    return Vanished(earlier, ranges_of(_word(uids)))


def ranges_of(text: str) -> tuple[tuple[int, int], ...]:
    """A sequence set without `*` (RFC 9051, 9) as ranges, ascending within each. Raises ProtocolError."""
    found = []
    for part in text.split(","):
        low, colon, high = part.partition(":")
        ends = number(low), number(high if colon else low)
        found.append((min(ends), max(ends)))
    return tuple(found)


def _capabilities(counted: int | None, values: list[Value]) -> Response:
    return Capabilities(frozenset(value.upper() for value in values if isinstance(value, str)))


def _listed(counted: int | None, values: list[Value]) -> Response:
    attributes, delimiter, name = values[0], values[1], values[2]
    if not isinstance(attributes, tuple):
        raise TypeError
    return Listed(
        frozenset(value.lower() for value in attributes if isinstance(value, str)),
        "" if delimiter is None else _octets(delimiter).decode("latin-1"),
        _octets(name),
    )


def _mailbox_status(counted: int | None, values: list[Value]) -> Response:
    *name, items = values
    if not isinstance(items, tuple) or not name:
        raise TypeError
    # A name with spaces that the server forgot to quote is put together again.
    pairs = {
        key.upper(): int(value)
        for key, value in zip(items[::2], items[1::2], strict=True)
        if isinstance(key, str) and isinstance(value, str) and _NUMBER.fullmatch(value)
    }
    return MailboxStatus(b" ".join(_octets(part) for part in name), pairs)


def _flags(counted: int | None, values: list[Value]) -> Response:
    (names,) = values
    if not isinstance(names, tuple):
        raise TypeError
    return Flags(tuple(name for name in names if isinstance(name, str)))


def _extended_search(counted: int | None, values: list[Value]) -> Response:
    tag = ""
    if values and isinstance(values[0], tuple):
        correlator, values = values[0], values[1:]
        tag = _octets(correlator[1]).decode("latin-1")
    uid = bool(values) and isinstance(values[0], str) and values[0].upper() == "UID"
    rest = values[1:] if uid else values
    items = {_word(key): value for key, value in zip(rest[::2], rest[1::2], strict=True)}
    return ExtendedSearch(tag, uid, items)


def _server_id(counted: int | None, values: list[Value]) -> Response:
    """Nothing depends on it, so what is not as it should be is left out."""
    pairs = values[0] if values and isinstance(values[0], tuple) else ()
    fields = {
        _octets(name).decode("utf-8", "replace").lower(): _octets(value).decode("utf-8", "replace")
        for name, value in zip(pairs[::2], pairs[1::2], strict=False)
        if isinstance(name, str | bytes) and isinstance(value, str | bytes)
    }
    return ServerId(fields)


def _word(value: Value) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.upper()


def _octets(value: Value) -> bytes:
    """An astring; NIL is a legal name."""
    if value is None:
        return b"NIL"
    if isinstance(value, tuple | int):
        raise TypeError
    return value.encode("latin-1") if isinstance(value, str) else value


_KNOWN = {
    "FETCH": _fetch,
    "EXISTS": _exists,
    "EXPUNGE": _expunged,
    "VANISHED": _vanished,
    "CAPABILITY": _capabilities,
    "LIST": _listed,
    "LSUB": _listed,
    "STATUS": _mailbox_status,
    "FLAGS": _flags,
    "ESEARCH": _extended_search,
    "ID": _server_id,
}


_INTERNAL_DATE = re.compile(
    rb" ?([0-9]{1,2})-([A-Za-z]{3})-([0-9]{4}) ([0-9]{2}):([0-9]{2}):([0-9]{2}) ([+-])([0-9]{2})([0-9]{2})"
)
_MONTHS = {
    month: at
    for at, month in enumerate(
        (b"jan", b"feb", b"mar", b"apr", b"may", b"jun", b"jul", b"aug", b"sep", b"oct", b"nov", b"dec"), 1
    )
}

_TIMES = {b"%02d:%02d:" % divmod(minute, 60): 60 * minute for minute in range(24 * 60)}
_SECONDS = {b"%02d" % second: min(second, 59) for second in range(61)}
"""A leap second is the last second of its minute here."""


def internal_date(value: bytes | None) -> datetime | None:
    """A date-time of the grammar (RFC 9051, 9) in UTC; None if it is none.

    >>> internal_date(b"22-Nov-2026 10:00:00 +0100")
    datetime.datetime(2026, 11, 22, 9, 0, tzinfo=datetime.timezone.utc)
    """
    if value is None:
        return None
    try:
        seconds = _TIMES[value[12:18]] + _SECONDS[value[18:20]]
        midnight = _midnight(value[:12], value[20:])
        if midnight is not None:
            return midnight + timedelta(0, seconds)
    except (KeyError, OverflowError):
        pass  # not the usual form, or at the end of all time
    return _read_date(value)


@lru_cache(maxsize=512)
def _midnight(day: bytes, zone: bytes) -> datetime | None:
    """The beginning of a day: mail that is fetched together shares its days."""
    return _read_date(day + b"00:00:00" + zone) if len(day) == 12 and len(zone) <= 6 else None


def _read_date(value: bytes) -> datetime | None:
    match = _INTERNAL_DATE.fullmatch(value)
    if match is None:
        return None
    day, month, year, hour, minute, second, sign, off_hours, off_minutes = match.groups()
    offset = timedelta(hours=int(off_hours), minutes=int(off_minutes))
    try:
        local = datetime(
            int(year), _MONTHS[month.lower()], int(day), int(hour), int(minute), min(int(second), 59), tzinfo=UTC
        )
        return local + offset if sign == b"-" else local - offset
    except (ValueError, KeyError, OverflowError):
        return None
