"""MIME: encoded words, charsets, transfer encodings and the parts of a message (RFC 2045 to 2047).

Everything here takes hostile bytes, raises on none and takes time that grows with their length alone. The standard
library's parser does not promise that (a Content-Type of 160 kB can cost it 16 s), and is not used.
"""

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from encodings.aliases import aliases as codec_names

from maillinkd.mail.header import MAX_HEADER, body_start, scan

MAX_SIZE = 36_700_160
"""Bytes of a message that are looked at (35 MiB)."""
MAX_DEPTH = 100
"""Parts within parts (as Postfix has it)."""
MAX_PARTS = 1_000
"""Parts of a message; the rest is passed over."""
MAX_BOUNDARY = 250
"""Characters of a boundary (RFC 2046, 5.1.1 allows 70); at a longer one nothing is split."""
MAX_WORK = 200_000_000
"""Bytes searched in all for boundaries, so that depth times size stays bounded."""

_WORD = re.compile(r"=\?([^?\s]{1,64})\?([bBqQ])\?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]+")

_NOT_TEXT = {"base64_codec", "bz2_codec", "hex_codec", "quopri_codec", "rot_13", "uu_codec", "zlib_codec", "mbcs"}
_CODECS = frozenset(codec_names.values()) - _NOT_TEXT | {"koi8_u", "koi8_t", "cp874", "cp1125", "cp720"}


def decode_text(data: bytes, charset: str) -> str:
    """The text of bytes in a charset, with U+FFFD for what is wrong in it.

    Only charsets that mail uses are asked: others among Python's codecs take quadratic time (punycode) or are none of
    text (zlib). A charset that is unknown, or missing, counts as UTF-8, and bytes that are not as windows-1252.
    """
    name = charset.partition("*")[0].strip().lower().replace("-", "_").replace(" ", "_")
    name = codec_names.get(name, name)
    if name == "ascii" or name not in _CODECS:
        return decode_8bit(data)
    return encodable(data.decode(name, "replace"))


def decode_8bit(data: bytes) -> str:
    """The text of bytes whose charset nobody declared: UTF-8 (RFC 6532), or else windows-1252."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def encodable(text: str) -> str:
    """The text with U+FFFD for lone surrogates, which neither UTF-8 nor a database takes."""
    return text if text.isascii() else _SURROGATE.sub("�", text)


def decode_words(text: str) -> str:
    """The text with its encoded words decoded (RFC 2047), as tolerantly as the mail of the world needs.

    White space between two encoded words goes (6.2). Neighbours of one charset are decoded together, because some
    clients split a character between them. What is no proper encoded word stays as it is.
    """
    if "=?" not in text:
        return text
    decoded: list[str] = []
    charset, data = "", b""
    end = at = 0
    while (word := _WORD.search(text, at)) is not None:
        close = text.find("?=", word.end())
        if close < 0:
            break
        between = text[end : word.start()]
        at = close + 2
        payload = _word_bytes(text[word.end() : close], word[2])
        follows = bool(charset) and not between.strip()
        if not follows or charset != word[1].lower():
            if charset:
                decoded.append(decode_text(data, charset))
            data = b""
        if not follows:
            decoded.append(between)
        charset, data, end = word[1].lower(), data + payload, at
    if charset:
        decoded.append(decode_text(data, charset))
    decoded.append(text[end:])
    return "".join(decoded)


def _word_bytes(text: str, encoding: str) -> bytes:
    data = encodable(text).encode()
    return decode_base64(data) if encoding in "bB" else binascii.a2b_qp(data, header=True)


def decode_transfer(data: bytes, encoding: str) -> bytes:
    """The body of a part without its Content-Transfer-Encoding (RFC 2045, 6); an unknown one is taken as none."""
    match encoding.strip().lower():
        case "base64":
            return decode_base64(data)
        case "quoted-printable":
            return binascii.a2b_qp(data)
        case _:
            return data


def decode_base64(data: bytes) -> bytes:
    """The bytes of base64 text, as far as it goes: foreign characters are skipped, missing padding is added."""
    try:
        return binascii.a2b_base64(data + b"==")
    except binascii.Error:
        letters = _NOT_BASE64.sub(b"", data)
        return binascii.a2b_base64(letters[: len(letters) // 4 * 4])


@dataclass(frozen=True, slots=True)
class Part:
    """An entity of a message: the message itself, a part of a multipart, or an attached message (RFC 2045, 2.4)."""

    header: bytes
    content_type: str
    """Type and subtype in lower case. A multipart that cannot be split counts as text/plain."""
    charset: str
    encoding: str
    attachment: bool
    """Declared as an attachment, or with a file name (RFC 2183)."""
    name: str
    """Its file name, if it has one, as it came: RFC 2231's charset and percent signs are left in it."""
    message: bool
    """The root of an attached message/rfc822."""
    messages: int
    """In how many attached messages it lies, counting itself if it is the root of one."""
    source: bytes
    start: int
    end: int

    def content(self, limit: int) -> bytes:
        """The body without its transfer encoding; about `limit` bytes of it at most."""
        encoded = self.source[self.start : min(self.end, self.start + 2 * limit)]
        return decode_transfer(encoded, self.encoding)[:limit]

    def text(self, limit: int) -> str:
        """The body as text; `limit` bounds its bytes."""
        return decode_text(self.content(limit), self.charset)


@dataclass(frozen=True, slots=True)
class _Entity:
    """A stretch of bytes that holds an entity: header, empty line, body."""

    source: bytes
    start: int
    end: int
    depth: int
    default_type: str = "text/plain"
    message: bool = False
    messages: int = 0


def walk(raw: bytes) -> Iterator[Part]:
    """The message and all its parts, attached messages and theirs included, in the order of their bytes.

    Bounded by MAX_SIZE, MAX_DEPTH, MAX_PARTS and MAX_WORK: what lies beyond is passed over. Never raises.
    """
    waiting = [_Entity(raw, 0, min(len(raw), MAX_SIZE), depth=0)]
    parts = work = 0
    while waiting and parts < MAX_PARTS and work < MAX_WORK:
        entity = waiting.pop()
        parts += 1
        part, boundary = _part(entity)
        children: list[_Entity] = []
        if entity.depth < MAX_DEPTH and boundary:
            work += part.end - part.start
            children = list(_children(entity, part, boundary))
        elif entity.depth < MAX_DEPTH and _is_message(part):
            work += part.end - part.start if part.encoding in _ENCODED else 0
            children = [_attached(entity, part)]
        yield part
        waiting += reversed(children)


_MESSAGES = {"message/rfc822", "message/global"}
_UNNAMED = {"application/octet-stream", "application/eml", "application/x-eml"}
_ENCODED = {"base64", "quoted-printable"}
_CONTENT = {"content-type", "content-transfer-encoding", "content-disposition"}
_TYPE = re.compile(r"\s*([\w.+-]+/[\w.+-]+)")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*+)"|([^;"\s]*))', re.DOTALL)
_PAIR = re.compile(r"\\(.)", re.DOTALL)
_AFTER_BOUNDARY = rb"(--)?[ \t]*(?:\r?\n|\r|\Z)"


def _is_message(part: Part) -> bool:
    """Some clients attach messages as files whose name alone says what they are."""
    return part.content_type in _MESSAGES or (part.content_type in _UNNAMED and part.name.lower().endswith(".eml"))


def _part(entity: _Entity) -> tuple[Part, str]:
    """The entity with its header read, and its boundary if it is a multipart."""
    start = body_start(entity.source, entity.start, entity.end)
    header = entity.source[entity.start : min(start, entity.start + MAX_HEADER)]
    fields: dict[str, str] = {}
    for field in scan(header, _CONTENT):
        fields.setdefault(field.name, field.value.decode("utf-8", "replace"))
    type_ = _TYPE.match(fields.get("content-type", ""))
    parameters = _parameters(fields.get("content-type", ""))
    content_type = type_[1].lower() if type_ else entity.default_type
    boundary = ""
    if content_type.startswith("multipart/"):
        boundary = parameters.get("boundary", "").rstrip()
        boundary = boundary if len(boundary) <= MAX_BOUNDARY else ""
        content_type = content_type if boundary else "text/plain"
    disposition = fields.get("content-disposition", "")
    declared = _parameters(disposition)
    part = Part(
        header=header,
        content_type=content_type,
        charset=parameters.get("charset", ""),
        encoding=fields.get("content-transfer-encoding", "").strip().lower(),
        attachment=disposition.strip().lower().startswith("attachment") or "filename" in declared,
        name=decode_words(declared.get("filename") or parameters.get("name", "")),
        message=entity.message,
        messages=entity.messages,
        source=entity.source,
        start=start,
        end=entity.end,
    )
    return part, boundary


def _parameters(value: str) -> dict[str, str]:
    """RFC 2045, 5.1; the first of a name counts, and what continues it (RFC 2231, 3)."""
    parameters: dict[str, list[str]] = {}
    for name, quoted, token in _PARAMETER.findall(value):
        base, _, section = name.lower().partition("*")
        text = _PAIR.sub(r"\1", quoted) or token
        if base not in parameters:
            parameters[base] = [text]
        elif section.rstrip("*").isdecimal():
            parameters[base].append(text)
    return {name: "".join(texts) for name, texts in parameters.items()}


def _attached(entity: _Entity, part: Part) -> _Entity:
    """The message in a message/rfc822 part; some clients encode it, though RFC 2046, 5.2.1 forbids that."""
    source, start, end = part.source, part.start, part.end
    if part.encoding in _ENCODED:
        source = decode_transfer(source[start:end], part.encoding)
        start, end = 0, len(source)
    return _Entity(source, start, end, entity.depth + 1, message=True, messages=entity.messages + 1)


def _children(entity: _Entity, part: Part, boundary: str) -> Iterator[_Entity]:
    """The parts of a multipart (RFC 2046, 5.1.1); one that is never closed reaches to the end."""
    source, end = part.source, part.end
    default = "message/rfc822" if part.content_type == "multipart/digest" else "text/plain"
    opened: int | None = None
    count = 0
    for delimiter, after, closing in _delimiters(source, part.start, end, boundary):
        if opened is not None:
            yield _Entity(source, opened, max(opened, delimiter), entity.depth + 1, default, messages=entity.messages)
        opened = None if closing else after
        count += 1
        if closing or count > MAX_PARTS:
            break
    if opened is not None and count <= MAX_PARTS:
        yield _Entity(source, opened, end, entity.depth + 1, default, messages=entity.messages)


def _delimiters(source: bytes, start: int, end: int, boundary: str) -> Iterator[tuple[int, int, bool]]:
    """Each delimiter line: where the line end before it begins, where the line after it begins, and if it closes."""
    dashed = re.escape(b"--" + encodable(boundary).encode())
    # The engine finds the literal at the beginning fast; what stands before it is looked at afterwards.
    delimiter = re.compile(dashed + rb"(?<![^\r\n]" + dashed + rb")" + _AFTER_BOUNDARY)
    for line in delimiter.finditer(source, start, end):
        at = line.start()
        before = at - 2 if source[max(start, at - 2) : at] == b"\r\n" else max(start, at - 1)
        yield before, line.end(), line[1] is not None
