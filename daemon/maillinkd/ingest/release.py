"""Mail leaves quarantine: released by hand, or because it can be read by now."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from maillinkd.ingest import filing
from maillinkd.ingest.filing import Arrival, Place
from maillinkd.ingest.hand import Refused
from maillinkd.ingest.house import House, Line
from maillinkd.ingest.office import IMAP, SMART_BCC, Channel
from maillinkd.ingest.reading import content_ids
from maillinkd.ingest.sorting import sort
from maillinkd.linker.decision import Trigger
from maillinkd.mail.delivery import Received, TemporaryFailure
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, read
from maillinkd.store import quarantine
from maillinkd.store.quarantine import UNREADABLE, Held
from maillinkd.worker.parent import WorkerFailed

log = structlog.get_logger("maillinkd.ingest")


@dataclass(frozen=True, slots=True)
class Retried:
    """What came of reading again what could not be read."""

    filed: int
    distrusted: int
    """Could be read, and is held for another reason now."""
    unreadable: int
    lines: Sequence[Line]
    """Of the decisions on what was filed."""


async def release(house: House, number: int, owner: str | None) -> list[Line]:
    """Takes a mail out of quarantine and files it as if it had been trusted (L14).

    Raises Refused for an unknown number, a mail that still cannot be read, or one whose owner is not clear.
    """
    async with house.database.reading() as connection:
        held = await quarantine.get(connection, number)
    if held is None:
        raise Refused(f"there is no mail {number} in quarantine")
    who, channel, arrival = await _released(house, held, owner)
    return await _file(house, number, who, channel, arrival, Trigger.RELEASE)


async def retry(house: House, progress: Callable[[int], None]) -> Retried:
    """Reads all mail again that lies in quarantine because it could not be read, and files what can be.

    What is read and not trusted stays there, with that reason.
    """
    lines: list[Line] = []
    filed = distrusted = unreadable = 0
    async with house.database.reading() as connection:
        numbers = await quarantine.unreadable(connection)
    for number in numbers:
        async with house.database.reading() as connection:
            held = await quarantine.get(connection, number)
        if held is None:  # dropped meanwhile
            continue
        who, channel, found = await _read_again(house, held)
        if isinstance(found, Held):
            async with house.transaction() as connection:
                await quarantine.change(connection, number, found)
            distrusted += found.reason != UNREADABLE
            unreadable += found.reason == UNREADABLE
        else:
            try:
                lines += await _file(house, number, who, channel, found, Trigger.MESSAGE)
            except (TemporaryFailure, Refused):
                raise
            except Exception:
                log.exception("mail stays in quarantine", number=number)
                unreadable += 1
            else:
                filed += 1
        progress(1)
    await house.note_told()
    return Retried(filed, distrusted, unreadable, lines)


async def _read_again(house: House, held: Held) -> tuple[str, Channel, Arrival | Held]:
    """A mail as it would be filed, or as it is to be held."""
    if held.channel == SMART_BCC:
        found = await sort(house, _received(held), trusted=house.office.trusts_authors)
        if found.arrival is not None:
            return found.owner, SMART_BCC, found.arrival
        return "", SMART_BCC, found.held or held
    try:
        return await _released(house, held, None)
    except Refused as refused:
        return "", IMAP, replace(held, error=str(refused))


async def _file(
    house: House, number: int, who: str, channel: Channel, arrival: Arrival, trigger: Trigger
) -> list[Line]:
    async with house.transaction() as connection:
        if not await quarantine.take_out(connection, number):
            raise Refused(f"mail {number} is no longer in quarantine")
        filed = await filing.file_messages(
            connection, house.office, who, channel, [arrival], instance=house.instance, trigger=trigger
        )
    house.tell(filed.lines)
    return filed.lines


async def _released(house: House, held: Held, owner: str | None) -> tuple[str, Channel, Arrival]:
    """Whose it is, and as what it is filed. Raises Refused."""
    if held.channel == SMART_BCC:
        return await _released_bcc(house, held, owner)
    mailboxes = house.office.settings.mailboxes
    if held.mailbox is None or held.mailbox not in mailboxes:
        raise Refused(f"the mailbox of mail {held.number} is not in the configuration")
    headers, _ = split(held.raw)
    message = read(headers, held.received_at, held.size)
    if not isinstance(message, Message):
        raise Refused(f"mail {held.number} still cannot be read: {message}")
    place = None
    if held.folder is not None and held.uidvalidity is not None and held.uid is not None:
        place = Place(held.folder, held.uidvalidity, held.uid)
    who = house.office.owner_of_mailbox(held.mailbox)
    raw = held.raw if mailboxes[held.mailbox].store == "full" and len(held.raw) == held.size else None
    try:
        ids = await content_ids(house, who, message, raw)
    except WorkerFailed as error:
        raise Refused(f"mail {held.number} still cannot be read: {error}") from error
    return who, IMAP, Arrival(message, raw, held.size, held.mailbox, place, content_ids=ids)


async def _released_bcc(house: House, held: Held, owner: str | None) -> tuple[str, Channel, Arrival]:
    who = owner or house.office.owner_of_address(held.author)
    if who is None:
        author = held.author or "nobody"
        raise Refused(f"mail {held.number} is from {author}, who is no user: say whose it is with --owner USER")
    if who not in house.office.settings.users:
        raise Refused(f"there is no user {who!r} in the configuration")
    found = await sort(house, _received(held), trusted=True, owner=who)
    if found.arrival is None:
        reason = found.held.error or found.held.reason if found.held else "unknown"
        raise Refused(f"mail {held.number} cannot be filed: {reason}")
    return who, SMART_BCC, found.arrival


def _received(held: Held) -> Received:
    """A mail in quarantine as the SMTP door had handed it over."""
    return Received(held.sender, held.recipients, held.raw, held.received_at, verdict=held.verdict)
