"""What of synced mail is left out, by choice: mail of blocked authors, and bulk mail. Each has its reason."""

from collections.abc import Mapping
from enum import StrEnum

from maillinkd.ingest.office import IMAP, Office
from maillinkd.mail import classes
from maillinkd.mail.message import Message, Role
from maillinkd.mail.threads import node
from maillinkd.store import mailroom
from maillinkd.store.database import Connection


class Filtered(StrEnum):
    """Why a mail is not stored; its disposition in the ledger is `filtered:` and this."""

    BLOCKED = "blocked"
    BULK = "bulk"

    @property
    def disposition(self) -> str:
        return f"filtered:{self}"


def left_out(office: Office, owner: str, message: Message) -> Filtered | None:
    """Whether this owner's mail is to be left out, and why. A block holds before a class."""
    if blocked_by(office, owner, message) is not None:
        return Filtered.BLOCKED
    if office.settings.policy.bulk == "ignore" and _is_bulk(office, message):
        return Filtered.BULK
    return None


def blocked_by(office: Office, owner: str, message: Message) -> str | None:
    """The entry of the block lists that one of its authors falls under: an address, or "@" with a domain."""
    blocks = office.blocks(owner)
    if not blocks:
        return None
    for each in message.participants:
        if each.role is Role.FROM:
            compared = office.compared(each.address)
            if (entry := compared if compared in blocks else _domain_in(each.address, blocks)) is not None:
                return entry
    return None


def because(office: Office, owner: str, message: Message, reason: Filtered) -> list[str]:
    """What makes this mail one of those: the entry of a block list, or the header fields of bulk mail."""
    if reason is Filtered.BULK:
        return classes.borne_by(message.headers, office.internal_domains)
    entry = blocked_by(office, owner, message)
    return [] if entry is None else [entry]


def without_body(office: Office, message: Message) -> bool:
    """Whether only the header fields of this mail are kept, although its mailbox keeps whole messages."""
    return office.settings.policy.bulk == "metadata" and _is_bulk(office, message)


def reasons(office: Office, owner: str, messages: Mapping[int, Message]) -> dict[int, Filtered]:
    """Of these messages, those that are to be left out."""
    return {number: why for number, each in messages.items() if (why := left_out(office, owner, each)) is not None}


async def not_stored(connection: Connection, owner: str, messages: Mapping[int, Message]) -> set[int]:
    """Of these messages, those that are not stored: what is there stays, whatever is left out later."""
    if not messages:
        return set()
    scope = await mailroom.lock_scope(connection, owner, IMAP)
    identities = {
        number: mailroom.identity_in(scope.id, each.identity, node(scope.id, each.message_id))
        for number, each in messages.items()
    }
    known = await mailroom.known_identities(connection, set(identities.values()))
    return {number for number, identity in identities.items() if identity not in known}


def _is_bulk(office: Office, message: Message) -> bool:
    return bool(classes.signs(message.headers, office.internal_domains))


def _domain_in(address: str, blocks: frozenset[str]) -> str | None:
    """The entry with its domain, or with one that this is a subdomain of."""
    domain = address.rpartition("@")[2]
    while domain:
        if f"@{domain}" in blocks:
            return f"@{domain}"
        domain = domain.partition(".")[2]
    return None
