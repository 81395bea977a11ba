"""A message as the rules see it: its ids, people, times and identity, taken from its header block."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Role(StrEnum):
    """How an address takes part in a message (RFC 5322, 3.6.2 and 3.6.3; `FORWARDED` by linking.md L15)."""

    FROM = "from"
    REPLY_TO = "reply_to"
    TO = "to"
    CC = "cc"
    BCC = "bcc"
    FORWARDED = "forwarded"


@dataclass(frozen=True, slots=True)
class Participant:
    """An address in a role. `address` is normalised (mail.address.normalise); the order is that of the header."""

    role: Role
    address: str


@dataclass(frozen=True, slots=True)
class Message:
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
