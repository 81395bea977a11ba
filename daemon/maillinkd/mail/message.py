"""A message as the rules see it: its ids, people, times and identity, taken from its header block."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from typing import NamedTuple

from maillinkd.mail import msgid
from maillinkd.mail.address import parse_addresses
from maillinkd.mail.date import parse_date
from maillinkd.mail.header import gather, scan
from maillinkd.mail.header import split as split
from maillinkd.mail.mime import decode_8bit, decode_words
from maillinkd.mail.subject import MAX_SUBJECT, base_subject


class Role(StrEnum):
    """How an address takes part in a message (RFC 5322, 3.6.2 and 3.6.3; `FORWARDED` by linking.md L15)."""

    FROM = "from"
    REPLY_TO = "reply_to"
    TO = "to"
    CC = "cc"
    BCC = "bcc"
    FORWARDED = "forwarded"


class Participant(NamedTuple):
    """An address in a role. `address` is normalised (mail.address.normalise); the order is that of the header."""

    role: Role
    address: str


class Message(NamedTuple):
    """What threading and linking need to know of one message.

    Ids are without angle brackets, normalised by threading.md T3 and T4.
    """

    message_id: str
    """T5: the message's own id; one that we made from a hash where the header has none."""
    made_id: bool
    """True where `message_id` is ours (T5): nothing can refer to it, and it is not shown as the mail's own."""
    aliases: tuple[str, ...]
    """T10: further ids that the message bears."""
    references: tuple[str, ...]
    """T6 after T8 and T9, in the order of the header, without repeats."""
    in_reply_to: tuple[str, ...]
    """T7 after T8."""
    participants: tuple[Participant, ...]
    """From, Reply-To, To, Cc, Bcc, in this order and then that of the header, without repeats within a role."""
    subject: str
    """Decoded (RFC 2047), one line, no control characters, at most 998 characters."""
    base_subject: str
    """T13: RFC 5256, 2.1 with localised prefixes, NFC, case-folded."""
    date: datetime | None
    """The Date header in UTC, None where it is missing or unreadable."""
    sent_at: datetime
    """linking.md, "Started": `date`, unless it is missing, unreadable, before 1990 or more than a day after
    `received_at`; then `received_at`. UTC."""
    received_at: datetime
    """INTERNALDATE, the mbox `From ` line, or the clock at SMTP DATA. UTC."""
    identity: bytes
    """T11: SHA-256 (32 bytes) over id, From address, base subject and Date: equal means the same message."""
    headers: bytes
    """The fields that were looked at, raw, as they came (T2, T14)."""


ALIAS_FIELDS = (
    "X-Microsoft-Original-Message-ID",
    "X-Google-Original-Message-ID",
    "X-Original-Message-ID",
    "Original-Message-ID",
    "X-Alt-Message-ID",
)
"""T10."""

FIELDS = (
    "Return-Path",
    "Date",
    "From",
    "Sender",
    "Reply-To",
    "To",
    "Cc",
    "Bcc",
    "Subject",
    "Message-ID",
    "In-Reply-To",
    "References",
    "Delivered-To",
    "X-Original-To",
    *ALIAS_FIELDS,
    "X-Forwarded-Message-Id",
    "Thread-Index",
    "Thread-Topic",
    "X-GM-THRID",
    "List-Id",
    "List-Post",
    "List-Unsubscribe",
    "Precedence",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "Content-Type",
)
"""The header fields that the rules look at or keep (T14): those to fetch, and those in `Message.headers`."""

MAX_PARTICIPANTS = 1_000
"""Addresses taken in one role."""
EARLIEST_DATE = datetime(1990, 1, 1, tzinfo=UTC)
LATEST_AFTER_RECEIPT = timedelta(days=1)

COMMON = 256
"""Octets of an address field that may well come again."""

_NAMES = frozenset(name.lower() for name in FIELDS)
_ALIASES = tuple(name.lower() for name in ALIAS_FIELDS)
_ROLES = {"from": Role.FROM, "reply-to": Role.REPLY_TO, "to": Role.TO, "cc": Role.CC, "bcc": Role.BCC}
_OTHER_ADDRESSES = ("sender", "delivered-to", "x-original-to")
_MADE_FROM = ("from", "date", "subject", "to", "cc")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]+")

_Values = Mapping[str, Sequence[bytes]]


def parse(headers: bytes, *, received_at: datetime, size: int) -> Message:
    """The message whose header block this is; what follows the first empty line is not looked at.

    `received_at` without a zone counts as UTC; `size` is that of the whole message in bytes. Never raises, whatever
    the bytes are, and takes time that grows with their number alone, of which header.MAX_HEADER count.
    """
    values, kept = gather(headers, _NAMES)
    if received_at.tzinfo is not UTC:
        received_at = received_at.replace(tzinfo=UTC) if received_at.tzinfo is None else received_at.astimezone(UTC)
    written_date = _first(values, "date")
    date = parse_date(_text(written_date))
    subject = _subject(_first(values, "subject"))
    base = base_subject(subject)
    given_id = msgid.message_id(_texts(values, "message-id"))
    id_ = given_id or _made_id(values, received_at, size)
    aliases = [text for name in _ALIASES if name in values for text in _texts(values, name)]
    references, in_reply_to = _texts(values, "references"), _texts(values, "in-reply-to")
    participants = tuple([each for name in _ROLES if name in values for each in _participants(name, values[name])])
    no_ids = _no_ids(values, participants) if references or in_reply_to else set[str]()
    sender = participants[0].address if participants and participants[0].role is Role.FROM else ""
    return Message(
        message_id=id_,
        made_id=given_id is None,
        aliases=msgid.aliases(aliases, own=id_) if aliases else (),
        references=msgid.references(references, own=id_, addresses=no_ids) if references else (),
        in_reply_to=msgid.in_reply_to(in_reply_to, own=id_, addresses=no_ids) if in_reply_to else (),
        participants=participants,
        subject=subject,
        base_subject=base,
        date=date,
        sent_at=_sent_at(date, received_at),
        received_at=received_at,
        identity=_identity(id_, sender, base, date, written_date),
        headers=kept,
    )


def read(headers: bytes, received_at: datetime, size: int) -> Message | str:
    """The message, or why it cannot be read: whatever goes wrong with one mail stops nothing else."""
    try:
        return parse(headers, received_at=received_at, size=size)
    except Exception as error:  # noqa: BLE001  # told by whoever asked
        return f"{type(error).__name__}: {error}"


def read_all(mails: Sequence[tuple[bytes, datetime, int]]) -> list[Message | str]:
    """`read` for each: header block, time received, size."""
    return [read(*mail) for mail in mails]


def header_date(headers: bytes) -> datetime | None:
    """The Date field of a header block in UTC, or None: the time received of mail that came as a file."""
    return next((parse_date(_text(field.value)) for field in scan(headers, {"date"}) if field.value.strip()), None)


def _first(values: _Values, name: str) -> bytes:
    """The first field of that name that is not empty."""
    for value in values.get(name, ()):
        if value.strip():
            return value
    return b""


def _text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _texts(values: _Values, name: str) -> list[str]:
    return [value.decode("utf-8", "surrogateescape") for value in values[name]] if name in values else []


def _participants(name: str, values: Sequence[bytes]) -> tuple[Participant, ...]:
    """Those whom the fields of that name tell."""
    if len(values) == 1 and len(values[0]) <= COMMON:  # nearly always
        return _common_participants(name, values[0])
    return tuple(Participant(_ROLES[name], address) for address in _addresses(values))


@lru_cache(maxsize=4_096)
def _common_participants(name: str, value: bytes) -> tuple[Participant, ...]:
    return tuple(Participant(_ROLES[name], address) for address in _common_addresses(value))


def _no_ids(values: _Values, participants: Iterable[Participant]) -> set[str]:
    """T8: the addresses that are no ids."""
    found = {each.address for each in participants}
    for name in _OTHER_ADDRESSES:
        if name in values:
            found.update(_addresses(values[name]))
    return found


def _addresses(values: Sequence[bytes]) -> tuple[str, ...]:
    if len(values) == 1:  # nearly always
        return _common_addresses(values[0]) if len(values[0]) <= COMMON else parse_addresses(values[0])
    found = dict.fromkeys(address for value in values for address in parse_addresses(value))
    return tuple(found)[:MAX_PARTICIPANTS]


@lru_cache(maxsize=4_096)
def _common_addresses(value: bytes) -> tuple[str, ...]:
    """The same few people write most of a mailbox."""
    return parse_addresses(value)


def _subject(value: bytes) -> str:
    text = decode_words(decode_8bit(value))
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    return text.strip()[:MAX_SUBJECT]


def _sent_at(date: datetime | None, received_at: datetime) -> datetime:
    """linking.md, "Started"."""
    if date is None or date < EARLIEST_DATE or date - received_at > LATEST_AFTER_RECEIPT:
        return received_at
    return date


def _made_id(values: _Values, received_at: datetime, size: int) -> str:
    """T5: an id of our own. The space in it keeps every reference from naming it (T3)."""
    facts = [_collapsed(b", ".join(values.get(name, ()))) for name in _MADE_FROM]
    if not _first(values, "date"):
        facts += [received_at.isoformat().encode(), b"%d" % size]
    return f"made {_digest(facts).hex()}"


def _identity(id_: str, sender: str, base: str, date: datetime | None, written_date: bytes) -> bytes:
    """T11."""
    when = b"%d" % date.timestamp() if date is not None else b"unread " + _collapsed(written_date)
    return _digest((id_.encode("utf-8", "surrogateescape"), sender.encode(), base.encode(), when))


def _collapsed(value: bytes) -> bytes:
    return b" ".join(value.split())


def _digest(facts: Iterable[bytes]) -> bytes:
    """SHA-256 over the facts, each with its length, so that none can stand in for two."""
    return sha256(b"".join([b"%d:%b," % (len(fact), fact) for fact in facts])).digest()
