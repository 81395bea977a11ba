"""The header block that a mail program quotes above a forwarded text (linking.md L15), found by one walk.

A wrong person is worse than none. So a block counts only where its labels are of one language and stand together, one
of them says from whom, and another says when, to whom or about what; and not where it is part of a quoted answer.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from maillinkd.mail.address import parse_addresses
from maillinkd.mail.labels import LABELS, LANGUAGES, MAX_LABEL, compared

MAX_LINES = 200
"""Lines of a text in which the block must begin."""
MAX_BLOCK = 400
"""Lines after those that are looked at, for a block that begins late and has many recipients."""
MAX_BETWEEN = 5
"""Lines without a label between two fields."""
ADDRESS_FIELDS = ("from", "reply-to", "to", "cc")
"""The fields whose addresses count, in the order in which they are given."""


@dataclass(frozen=True, slots=True)
class Block:
    """A quoted header block."""

    line: int
    """Where it begins; the first line of the text is 1."""
    language: str
    """That of its labels; several, with slashes, where they are the same in all of these."""
    addresses: tuple[tuple[str, str], ...]
    """Field (of ADDRESS_FIELDS) and normalised address, field by field."""


def first_block(text: str) -> Block | None:
    """The first quoted header block of a text; None where there is none. Never raises; takes linear time.

    Where the first one is part of a quoted answer (`> ` before it and before the words above it) there is none.
    """
    draft: _Draft | None = None
    answered = False
    for number, line in enumerate(map(_Line.of, text.splitlines()[: MAX_LINES + MAX_BLOCK]), 1):
        if line.text and not line.depth:
            answered = False
        for piece in _unglued(line.text):
            meanings, value = _labelled(piece)
            if draft is not None and draft.takes(line, piece, meanings, value):
                continue
            if draft is not None and (block := draft.finished()) is not None:
                return None if draft.answered else block
            if number > MAX_LINES:
                return None
            draft = _Draft(number, answered, meanings, value) if meanings else None
            if line.depth and piece and not meanings and not _ANNOUNCES.search(piece):
                answered = True
    block = draft.finished() if draft is not None else None
    return None if draft is not None and draft.answered else block


_INVISIBLE = re.compile("[\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff\xad]")
_QUOTING = re.compile(r"(?:[>|]\s*)+")
_COLON = re.compile("[:：]")
_ANNOUNCES = re.compile(r"[:：\-_=]\Z|\A[-_=]")
# Some programs leave out the line ends between the fields, or after the line that announces a forward:
# `From: Carla <carla@client.example>To: Anna <…>`, `----- Forwarded message ----- From: Carla <…>`.
_GLUED = re.compile(rf"(?<=>)\s*(?=([^\W\d_][^:：<>@\",;]{{0,{MAX_LABEL}}})[:：])")
_RULE = re.compile(r"([-_=])\1\1+(?:[^-_=]{1,80}\1\1\1+)?\s*")
_UNKNOWN_FIELD = re.compile(rf"[^\W\d_][^:：@<>,;\"]{{0,{MAX_LABEL}}}[:：]")
_BRACKETED = re.compile(
    r"[\[(](?:mailto:)?([^\s\[\]()<>@:,;]+@[^\s\[\]()<>@:,;]+)[\])](?![^,;<]{0,80}<)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line without quote marks, invisible characters and surrounding space."""

    text: str
    depth: int
    """How often it is quoted."""
    indented: bool

    @classmethod
    def of(cls, line: str) -> "_Line":
        line = _INVISIBLE.sub("", line)
        quoting = _QUOTING.match(line.lstrip())
        if quoting is None:
            return cls(line.strip(), 0, line[:1].isspace())
        rest = line.lstrip()[quoting.end() :]
        return cls(rest.strip(), quoting[0].count(">"), quoting[0][-2:].isspace())


def _unglued(line: str) -> list[str]:
    """The line, cut before each label that follows an address or a rule without a line end."""
    cuts = [cut for cut in _GLUED.finditer(line) if compared(cut[1]) in LABELS] if ">" in line else []
    rule = _RULE.match(line)
    starts = [0, *(cut.end() for cut in cuts)]
    if rule is not None and _labelled(line[rule.end() :])[0]:
        starts[0] = rule.end()
    ends = [*(cut.start() for cut in cuts), len(line)]
    return [line[start:end] for start, end in zip(starts, ends, strict=True)]


def _labelled(line: str) -> tuple[Mapping[str, str], str]:
    """What the line's label means in each language, and its value; nothing for any other line."""
    colon = _COLON.search(line, 0, MAX_LABEL)
    meanings = LABELS.get(compared(line[: colon.start()])) if colon else None
    return (meanings, line[colon.end() :].strip("*_| \t\xa0")) if colon and meanings else ({}, "")


class _Draft:
    """A run of labelled lines that may turn out to be a block.

    A value goes on in the next line where it is not complete, and where lines without a label stand between two
    fields. One empty line may stand between fields. A label of another language, or of a field that is there already,
    begins another run.
    """

    __slots__ = ("_between", "_foreign", "_gap", "_readings", "_values", "answered", "line")

    def __init__(self, line: int, answered: bool, meanings: Mapping[str, str], value: str) -> None:
        self.line = line
        self.answered = answered
        self._values = [value]
        # By language, as long as it is one in which all labels mean something: each field's place among the values.
        self._readings = {language: {name: 0} for language, name in meanings.items()}
        # Lines since the last label, of which nobody knows yet whether they belong to its value.
        self._between: list[str] = []
        self._gap = False
        # The last label was none that is known, such as those of a whole header that somebody pasted.
        self._foreign = False

    def takes(self, line: _Line, piece: str, meanings: Mapping[str, str], value: str) -> bool:
        """Whether the piece belongs to the run; then it is in."""
        if not piece:
            goes_on, self._gap = not (self._gap or self._between), True
            return goes_on
        if meanings:
            return self._takes_field(meanings, value)
        if self._gap or len(self._between) == MAX_BETWEEN:
            return False
        if _UNKNOWN_FIELD.match(piece) or (self._foreign and line.indented):
            self._foreign = True
        elif self._foreign or self._between or not _goes_on(self._values[-1], piece):
            self._between.append(piece)
        else:
            self._values[-1] += f" {piece}"
        return True

    def _takes_field(self, meanings: Mapping[str, str], value: str) -> bool:
        readings = {
            language: {**reading, meanings[language]: len(self._values)}
            for language, reading in self._readings.items()
            if language in meanings and (meanings[language] not in reading or meanings[language] == "other")
        }
        if not readings or not self._may_go_on():
            return False
        if not self._foreign:
            self._values[-1] = " ".join([self._values[-1], *self._between])
        self._readings, self._between = readings, []
        self._values.append(value)
        self._gap = self._foreign = False
        return True

    def _may_go_on(self) -> bool:
        """Whether the lines between two fields can belong to the first of these.

        Words after a sender with an address do not: somebody has typed them.
        """
        last = len(self._values) - 1
        if not self._between or not any(reading.get("from") == last for reading in self._readings.values()):
            return True
        sender = self._values[-1]
        if not sender:
            return len(self._between) <= 2
        on_behalf = "]" in sender  # Outlook: `Carla [mailto:carla@client.example] On`, then `Behalf Of Dan`
        return len(self._between) == 1 and (on_behalf or ("@" not in sender and "@" in self._between[0]))

    def finished(self) -> Block | None:
        """The block that the run is, in the language that comes first in the table; None if it is none."""
        for language in LANGUAGES:
            reading = self._readings.get(language)
            if reading is not None and self._is_header(reading):
                addresses = tuple(
                    (name, address)
                    for name in ADDRESS_FIELDS
                    if name in reading
                    for address in quoted_addresses(self._values[reading[name]])
                )
                same = [language for language in LANGUAGES if self._readings.get(language) == reading]
                return Block(self.line, "/".join(same[:3]), addresses)
        return None

    def _is_header(self, reading: Mapping[str, int]) -> bool:
        """From, and one of the others; a date and one more where From names no address (Outlook, in a company)."""
        others = reading.keys() & {"to", "date", "subject"}
        if "from" not in reading or not others:
            return False
        return bool(quoted_addresses(self._values[reading["from"]])) or ("date" in others and len(others) > 1)


def _goes_on(value: str, line: str) -> bool:
    """Whether a value is not complete without the next line."""
    return bool(value) and (value[-1] in ",;" or line[0] in "<[" or value.rfind("<") > value.rfind(">"))


def quoted_addresses(value: str) -> tuple[str, ...]:
    """The normalised addresses of a value, in its order and without repeats.

    Besides those of RFC 5322: `Carla [mailto:carla@client.example]` (Outlook), `Carla (carla@client.example)` and
    `[carla@client.example](mailto:carla@client.example)`; but no bracket before an address in angles, where it is
    part of the name.
    """
    return parse_addresses(_BRACKETED.sub(r" <\1> ", value))
