"""What a pass would fetch, asked without filing anything."""

from dataclasses import dataclass

from maillinkd.imap import fetch, sync
from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.client import Connection, connect
from maillinkd.imap.errors import Refused, garbled
from maillinkd.imap.folders import Folder, resolve
from maillinkd.imap.reader import CHUNK, first_chunks, starting
from maillinkd.imap.response import ProtocolError
from maillinkd.imap.sync import Opened
from maillinkd.mail.delivery import Ledger


@dataclass(frozen=True, slots=True)
class FolderPlan:
    """What a pass would fetch from a folder."""

    folder: str
    new: int
    """Messages that came since the last look."""
    first: int
    """Messages that the first sync has still to fetch."""
    size: int
    """RFC822.SIZE of both together, bytes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass would fetch from a mailbox."""

    mailbox: str
    folders: tuple[FolderPlan, ...]
    missing_folders: tuple[str, ...]


async def plan(account: Account, ledger: Ledger, *, deadlines: Deadlines | None = None) -> Plan:
    """What a pass would fetch; files nothing. Raises as `poller.follow` with `once`."""
    connection = await connect(account, deadlines)
    try:
        return await _plan(connection, account, ledger)
    except ProtocolError as error:
        raise garbled(account.host, error) from error
    finally:
        await connection.logout()


async def _plan(connection: Connection, account: Account, ledger: Ledger) -> Plan:
    resolved = resolve(account.folders, await connection.folders())
    missing = list(resolved.missing)
    planned = []
    for folder in resolved.folders:
        try:
            opened = await connection.examine(folder)
        except Refused:
            missing.append(folder.name)
            continue
        planned.append(await _plan_folder(connection, account, ledger, folder, opened))
    return Plan(account.name, tuple(planned), tuple(missing))


async def _plan_folder(
    connection: Connection, account: Account, ledger: Ledger, folder: Folder, opened: Opened
) -> FolderPlan:
    cursor = await starting(connection, account, ledger, folder, opened)
    new = sync.above(await connection.uid_search(sync.new_criteria(cursor)), cursor)
    chunks = await first_chunks(connection, account, ledger, folder, cursor, CHUNK)
    first = [uid for chunk in chunks for uid in chunk.uids]
    size = 0
    for chunk in (*chunks, *sync.upwards(new, CHUNK)):
        size += sum((await fetch.sizes(connection, chunk.uids)).values()) if chunk.uids else 0
    return FolderPlan(folder.name, len(new), len(first), size)
