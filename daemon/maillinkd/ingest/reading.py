"""Mail becomes messages, and its text is read: in the worker, where there is one."""

from collections.abc import Sequence
from datetime import datetime

import structlog

from maillinkd.ingest.house import House
from maillinkd.ingest.office import Office
from maillinkd.mail.body import Body, Mode, read_body
from maillinkd.mail.delivery import TemporaryFailure
from maillinkd.mail.message import Message, Role, read_all
from maillinkd.worker.parent import Worker, WorkerFailed, WorkerMissing

MANY = 100
"""Messages that are worth the way to the worker and back."""

log = structlog.get_logger("maillinkd.ingest")


async def read_headers(
    worker: Worker | None, mails: Sequence[tuple[bytes, datetime, int]]
) -> Sequence[Message | str]:
    """Each as a message, or why it cannot be read. A mail is its header fields, the time received, and its octets."""
    if worker is not None and len(mails) >= MANY:
        try:
            return await worker.call(read_all, mails)
        except WorkerFailed as error:
            log.warning("mail is read without the worker", messages=len(mails), error=str(error))
    return read_all(mails)


async def read_text(worker: Worker | None, raw: bytes, forwarded: Mode, sought: Message | None) -> Body:
    """Full MIME parsing of a whole mail, for the persons of a forward (L15) and the text of `sought` (T12).

    Raises WorkerFailed where it cannot be read in time, or at all; TemporaryFailure where no worker is to be had.
    """
    if forwarded == "off" and sought is None:
        return Body()
    if worker is None:
        try:
            return read_body(raw, forwarded, sought)
        except Exception as error:
            raise WorkerFailed(f"{type(error).__name__}: {error}") from error
    try:
        return await worker.call(read_body, raw, forwarded, sought)
    except WorkerMissing as error:
        raise TemporaryFailure(str(error)) from error


async def content_ids(house: House, owner: str, message: Message, raw: bytes | None) -> tuple[str, ...]:
    """T12: the ids of a mail's content, where they are wanted and its text is at hand. Raises as `read_text`."""
    if raw is None or not wants_content_ids(house.office, owner, message):
        return ()
    return (await read_text(house.worker, raw, "off", message)).content_ids


def wants_content_ids(office: Office, owner: str, message: Message) -> bool:
    """T12: whether a mail is sought by its text, which is for mail whose From is the owner's."""
    if not office.policy.match_rewritten:
        return False
    authors = (each.address for each in message.participants if each.role is Role.FROM)
    return any(office.writes_for(author, owner) for author in authors)
