"""Classes of mail: bulk mail, and mail that no person wrote, as its own header says; texts are not looked at."""

import re
from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import lru_cache

from maillinkd.mail.address import is_internal, parse_addresses
from maillinkd.mail.header import gather

FIELDS = (
    "Return-Path",
    "From",
    "List-Id",
    "List-Post",
    "List-Unsubscribe",
    "Precedence",
    "Auto-Submitted",
    "X-Auto-Response-Suppress",
    "Content-Type",
)
"""The header fields that say it. All of them are among message.FIELDS."""


class Sign(StrEnum):
    """What makes a mail bulk or automatic."""

    LIST = "list"
    """List-Id (RFC 2919), List-Post or List-Unsubscribe (RFC 2369)."""
    PRECEDENCE = "precedence"
    """Precedence: bulk, list or junk (RFC 2076, 3.9: not standard, and everywhere)."""
    AUTO_SUBMITTED = "auto_submitted"
    """Auto-Submitted other than `no` (RFC 3834, 5)."""
    AUTO_RESPONSE_SUPPRESS = "auto_response_suppress"
    """X-Auto-Response-Suppress other than `None` (MS-OXCMAIL, 2.2.3.2.14)."""
    NULL_SENDER = "null_sender"
    """An empty Return-Path: a notification (RFC 5321, 4.5.5)."""
    REPORT = "report"
    """multipart/report (RFC 6522): a delivery status (RFC 3464) or a receipt (RFC 8098)."""
    NO_REPLY = "no_reply"
    """The author's address is one that nobody reads, by its own name."""


BORNE_BY: Mapping[Sign, tuple[str, ...]] = {
    Sign.LIST: ("List-Id", "List-Post", "List-Unsubscribe"),
    Sign.PRECEDENCE: ("Precedence",),
    Sign.AUTO_SUBMITTED: ("Auto-Submitted",),
    Sign.AUTO_RESPONSE_SUPPRESS: ("X-Auto-Response-Suppress",),
    Sign.NULL_SENDER: ("Return-Path",),
    Sign.REPORT: ("Content-Type",),
    Sign.NO_REPLY: ("From",),
}
"""The header fields that each sign is read from."""

COMMON = 256
"""Characters of a From field that may well come again."""

_NAMES = frozenset(name.lower() for name in FIELDS)
_LISTS = ("list-id", "list-post", "list-unsubscribe")
_BULK = frozenset({"bulk", "list", "junk"})
_LIST_ID = re.compile(r"<\s*([^<>\s]{1,255})\s*>\s*$")
_WORD = re.compile(r"[a-z0-9-]+")
_NO_REPLY = re.compile(r"(?:no|donot|dont)reply|mailerdaemon")
_BETWEEN = re.compile(r"[._-]+")


def signs(headers: bytes, own_domains: Collection[str] = ()) -> frozenset[Sign]:
    """Why the mail with these header fields is bulk or automatic; empty if it is a person's to persons.

    A list of one of `own_domains` (normalised) is no sign: an address that several colleagues read often is a list,
    and clients write to it. Never raises.
    """
    values: dict[str, list[str]] = {}
    for name, written in gather(headers, _NAMES)[0].items():
        texts = [text for value in written if (text := value.decode("latin-1").strip().lower())]
        if texts:
            values[name] = texts
    found = set[Sign]()
    ours = any(_is_ours(text, own_domains) for text in values.get("list-id", ()))
    if not ours and any(name in values for name in _LISTS):
        found.add(Sign.LIST)
    for text in values.get("precedence", ()):
        if _first_word(text) in _BULK and not (ours and _first_word(text) == "list"):
            found.add(Sign.PRECEDENCE)
    if any(_first_word(text) != "no" for text in values.get("auto-submitted", ())):
        found.add(Sign.AUTO_SUBMITTED)
    if any(_first_word(text) != "none" for text in values.get("x-auto-response-suppress", ())):
        found.add(Sign.AUTO_RESPONSE_SUPPRESS)
    if any(text.replace(" ", "") == "<>" for text in values.get("return-path", ())):
        found.add(Sign.NULL_SENDER)
    if any(text.partition(";")[0].strip() == "multipart/report" for text in values.get("content-type", ())):
        found.add(Sign.REPORT)
    if any(_nobody_wrote(text) for text in values.get("from", ())):
        found.add(Sign.NO_REPLY)
    return frozenset(found)


def borne_by(headers: bytes, own_domains: Collection[str] = ()) -> list[str]:
    """The header fields that make the mail bulk or automatic, as they stand: `List-Id: <news.client.example>`."""
    borne = signs(headers, own_domains)
    names = [name for sign in Sign if sign in borne for name in BORNE_BY[sign]]
    written = gather(headers, _NAMES)[0]
    return [
        f"{name}: {' '.join(value.decode('latin-1').split())}"
        for name in names
        for value in written.get(name.lower(), ())
        if value.strip()
    ]


def _is_ours(list_id: str, own_domains: Collection[str]) -> bool:
    matched = _LIST_ID.search(list_id)
    return matched is not None and is_internal(f"@{matched[1]}", own_domains)


def _first_word(text: str) -> str:
    """A keyword without the parameters or comment that may follow; "" for none."""
    matched = _WORD.match(text)
    return matched[0] if matched else ""


def _nobody_wrote(sender: str) -> bool:
    return _common_nobody(sender) if len(sender) <= COMMON else any(map(_nobody_reads, parse_addresses(sender)))


@lru_cache(maxsize=4_096)
def _common_nobody(sender: str) -> bool:
    return any(map(_nobody_reads, parse_addresses(sender)))


def _nobody_reads(address: str) -> bool:
    return _NO_REPLY.match(_BETWEEN.sub("", address.rpartition("@")[0])) is not None
