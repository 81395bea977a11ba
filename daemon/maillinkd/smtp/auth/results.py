"""`Authentication-Results`: what a relay of ours found out (RFC 8601). Whom to believe is decided by the caller."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from maillinkd.mail.header import Field

FIELD = "authentication-results"
MAX_METHODS = 50
MAX_DEPTH = 20
"""Comments in comments."""

_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"[^()\\]*([()\\]|\Z)")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_TOKEN = re.compile(r"[^\s;=()\"]+")
_VALUE = re.compile(r"[^\s;()\"]+")
_KEYWORD = re.compile(r"[a-z0-9](?:[a-z0-9_-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class Method:
    """One `resinfo`. All but values in lower case."""

    name: str
    result: str
    properties: dict[str, str]
    """By `ptype.property`; one that stands twice has the value ""."""


@dataclass(frozen=True, slots=True)
class Results:
    """One field."""

    authserv_id: str
    methods: tuple[Method, ...]


class Malformed(ValueError):
    """A field that is not as RFC 8601, 2.2 has it, or larger than is looked at."""


def believed(fields: Iterable[Field], authserv_id: str) -> Results | None:
    """The results of the relay of that name: those of the topmost field alone (RFC 8601, 5 and 7.1).

    None where that field is another's, is malformed or is not there: whatever stands below it, anybody may have
    written.
    """
    topmost = next((field for field in fields if field.name == FIELD), None)
    if topmost is None or not authserv_id:
        return None
    try:
        found = read(topmost.value)
    except Malformed:
        return None
    return found if found.authserv_id.lower() == authserv_id.lower() else None


def read(value: bytes) -> Results:
    """Reads what follows the colon, unfolded. Raises Malformed; takes time that grows with the length alone."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise Malformed("not UTF-8") from None
    return _Reader(text).results()


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def results(self) -> Results:
        name = self._quoted() if self._sees('"') else self._token()
        if self._at < len(self._text) and not self._sees(";") and self._token() != "1":
            raise Malformed("another version")
        methods: list[Method] = []
        nothing = False
        while self._sees(";"):
            self._at += 1
            self._skip()
            if self._at >= len(self._text):  # many end the last result, too
                break
            method = self._token()
            if method.lower() == "none" and not self._sees("="):
                nothing = True
                continue
            methods.append(self._method(method))
            if len(methods) > MAX_METHODS:
                raise Malformed("too many results")
        self._skip()
        if self._at < len(self._text) or (nothing and methods):
            raise Malformed("neither a result nor its end")
        return Results(name, tuple(methods))

    def _method(self, written: str) -> Method:
        name, slash, version = written.partition("/")
        if not _KEYWORD.fullmatch(name) or (slash and version != "1"):
            raise Malformed("no method")
        self._expect("=")
        result = self._token()
        if not _KEYWORD.fullmatch(result):
            raise Malformed("no result")
        properties: dict[str, str] = {}
        while not self._sees(";") and self._at < len(self._text):
            key = self._key()
            self._expect("=")
            value = self._value()
            properties[key] = "" if key in properties else value
        return Method(name.lower(), result.lower(), properties)

    def _key(self) -> str:
        """`reason`, or `ptype.property`, around whose dot there may be space."""
        key = self._token()
        while key.endswith(".") or self._sees("."):
            key += self._token()
        return key.lower()

    def _value(self) -> str:
        """A pvalue (RFC 8601, 2.2): also an address with a quoted local part, and base64, which ends in `=`."""
        text = ""
        if self._sees('"'):
            text = self._quoted()
            if self._text[self._at : self._at + 1] != "@":
                return text
        self._skip()
        found = _VALUE.match(self._text, self._at)
        if found is None:
            raise Malformed("no value")
        self._at = found.end()
        return text + found[0]

    def _token(self) -> str:
        self._skip()
        found = _TOKEN.match(self._text, self._at)
        if found is None:
            raise Malformed("no word where one should stand")
        self._at = found.end()
        return found[0]

    def _quoted(self) -> str:
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            raise Malformed("a quoted string without end")
        self._at = found.end()
        return re.sub(r"\\(.)", r"\1", found[1], flags=re.DOTALL)

    def _expect(self, character: str) -> None:
        if not self._sees(character):
            raise Malformed(f"no {character}")
        self._at += 1

    def _sees(self, character: str) -> bool:
        """Whether this comes next, white space and comments aside."""
        self._skip()
        return self._text.startswith(character, self._at)

    def _skip(self) -> None:
        """CFWS (RFC 5322, 3.2.2)."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if not self._text.startswith("(", self._at):
                return
            self._comment()

    def _comment(self) -> None:
        depth = 0
        while True:
            found = _COMMENT.match(self._text, self._at)
            self._at = found.end() if found else len(self._text)
            match found[1] if found else "":
                case "(":
                    depth += 1
                case ")":
                    depth -= 1
                case "\\":
                    self._at += 1
                case _:
                    raise Malformed("a comment without end")
            if depth == 0:
                return
            if depth > MAX_DEPTH:
                raise Malformed("comments too deep")
