"""What is to become of Smart Bcc mail: whose it is and which items it names, or why it is held (L14, L15)."""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import structlog

from maillinkd.ingest import authors, filing
from maillinkd.ingest.aside import Numbered
from maillinkd.ingest.filing import Arrival
from maillinkd.ingest.house import House, Line
from maillinkd.ingest.office import SMART_BCC, Office
from maillinkd.ingest.reading import read_text, wants_content_ids
from maillinkd.mail.body import Mode
from maillinkd.mail.delivery import Received, TemporaryFailure
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, Role, read
from maillinkd.store import aliases, inbound, quarantine
from maillinkd.store.aliases import Alias
from maillinkd.store.database import Connection
from maillinkd.store.quarantine import UNAUTHENTICATED, UNREADABLE, Held
from maillinkd.worker.parent import WorkerFailed

_NONE_ASKED: Mapping[str, Alias] = {}
_NO_ADDRESS = "none of its recipients is a Smart Bcc address any more"

log = structlog.get_logger("maillinkd.ingest")


@dataclass(frozen=True, slots=True)
class Sorted:
    """A mail with what is to become of it: one of arrival and held, or neither if it confirms an alias."""

    received: Received
    sent_at: datetime
    owner: str = ""
    arrival: Arrival | None = None
    held: Held | None = None
    author: str = ""
    message_id: str = ""
    forwarded: Mode = "off"
    """Where the persons of a forward are still to be sought (L15)."""
    digest: bytes = b""
    """Of envelope and bytes, where nothing else tells the mail from its retry."""
    confirms: str = ""
    """The alias of the owner that it confirms."""

    def in_quarantine(self, reason: str, error: str = "") -> Held:
        """How it lies there."""
        received = self.received
        return Held(
            digest=inbound.digest_of(received),
            channel=SMART_BCC,
            reason=reason,
            error=error,
            message_id=self.message_id,
            received_at=received.received_at,
            size=len(received.raw),
            raw=received.raw,
            sender=received.sender,
            recipients=received.recipients,
            author=self.author,
            verdict=received.verdict,
        )


async def sort(
    house: House,
    received: Received,
    asked: Mapping[str, Alias] = _NONE_ASKED,
    *,
    trusted: bool,
    owner: str | None = None,
) -> Sorted:
    """L14, L15: whose mail it is, and who is in it; or why it goes to quarantine.

    `asked`: the aliases that wait for mail, by token. `trusted`: From is believed. `owner`: whose it is, if a hand
    has said so. Raises TemporaryFailure where there is no worker to be had.
    """
    try:
        found = _by_header(house.office, received, asked, trusted=trusted, owner=owner)
        if found.arrival is None:
            return found
        message = found.arrival.message
        sought = message if wants_content_ids(house.office, found.owner, message) else None
        body = await read_text(house.worker, received.raw, found.forwarded, sought)
    except TemporaryFailure:
        raise
    except Exception as error:
        log.exception("message could not be read", size=len(received.raw))
        why = str(error) if isinstance(error, WorkerFailed) else f"{type(error).__name__}: {error}"
        return _unreadable(received, why)
    forwarded = tuple((each.address, each.evidence) for each in body.forwarded)
    return replace(found, arrival=found.arrival._replace(forwarded=forwarded, content_ids=body.content_ids))


def _by_header(
    office: Office, received: Received, asked: Mapping[str, Alias], *, trusted: bool, owner: str | None
) -> Sorted:
    """What its header tells; the persons of a forward are still missing."""
    headers, _ = split(received.raw)
    message = read(headers, received.received_at, len(received.raw))
    if not isinstance(message, Message):
        return _unreadable(received, message)
    senders = [each.address for each in message.participants if each.role is Role.FROM]
    author = senders[0] if len(senders) == 1 else ""
    found = Sorted(received, message.sent_at, author=author, message_id=message.message_id)
    judged = authors.Judged(owner) if owner else authors.judge(office, received, message, asked, trusted=trusted)
    if judged.reason or judged.unchecked:
        reason, error = judged.reason or UNAUTHENTICATED, judged.error or "not checked"
        return replace(found, held=found.in_quarantine(reason, error))
    targets = [office.recipient(recipient) for recipient in received.recipients]
    lasting = [target for target in targets if target is not None and not target.alias]
    if judged.confirms and not lasting:
        return replace(found, owner=judged.owner, confirms=judged.confirms)
    if not lasting:
        error = "its one-time address was used, or is void" if any(targets) else _NO_ADDRESS
        return replace(found, held=found.in_quarantine("smart_bcc_unknown_recipient", error))
    named = tuple(target.item for target in lasting if target.item is not None)
    external = any(not office.is_internal(office.compared(each.address)) for each in message.participants)
    visible = any(
        each.role in (Role.TO, Role.CC) and office.recipient(each.address) is not None
        for each in message.participants
    )
    unmarked = message.made_id and message.date is None
    return replace(
        found,
        owner=judged.owner,
        arrival=Arrival(message, received.raw, len(received.raw), named=named, is_forward=visible and not external),
        forwarded="off" if external else office.forwarded,
        digest=inbound.digest_of(received) if unmarked else b"",
        confirms=judged.confirms,
    )


def _unreadable(received: Received, error: str) -> Sorted:
    found = Sorted(received, received.received_at)
    return replace(found, held=found.in_quarantine(UNREADABLE, error))


class SortedBatch:
    """Mails that are filed together (`aside.Batch`)."""

    def __init__(self, house: House, mails: Mapping[int, Sorted], *, kept: bool = False) -> None:
        """`kept`: they wait in `inbound`, under these numbers, and leave it when they are filed."""
        self._house = house
        self._mails = mails
        self._kept = kept
        self.stored = 0
        """How many messages were not known before."""

    async def file(
        self, connection: Connection, numbers: Collection[int], held: Numbered, *, done: bool
    ) -> list[Line]:
        """Each in its owner's scope; what is to be held goes to quarantine, and aliases are confirmed."""
        house, now = self._house, datetime.now(UTC)
        mails = [each for number, each in self._mails.items() if number in numbers]
        seen = await inbound.known(connection, {each.digest for each in mails if each.digest})
        digests = set[bytes]()
        by_owner = defaultdict[str, list[Arrival]](list)
        for each in mails:
            if each.confirms:
                await aliases.confirm(connection, each.confirms, now)
            if each.arrival is not None and each.digest not in seen | digests:
                by_owner[each.owner].append(each.arrival)
                if each.digest:
                    digests.add(each.digest)
        lines: list[Line] = []
        stored = 0
        for owner, arrivals in sorted(by_owner.items()):
            filed = await filing.file_messages(
                connection, house.office, owner, SMART_BCC, arrivals, instance=house.instance
            )
            lines += filed.lines
            stored += filed.stored
        await inbound.remember(connection, digests, now)
        await quarantine.hold(connection, [each.held for each in mails if each.held is not None], now)
        await quarantine.hold(connection, [each for _, each in held], now)
        if self._kept:
            await inbound.filed(connection, {*numbers, *(number for number, _ in held)})
        self.stored += stored
        return lines

    def suspect(self, number: int) -> Held:
        return self._mails[number].in_quarantine(UNREADABLE)
