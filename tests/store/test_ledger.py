"""What became of UIDs, in runs; on both databases."""

from collections.abc import Mapping
from datetime import UTC, datetime

from sqlalchemy import text

from maillinkd.mail.delivery import FolderCursor, Run
from maillinkd.store import cursors, ledger
from maillinkd.store.cursors import GONE, QUARANTINED, STORED
from maillinkd.store.database import Database
from maillinkd.store.mailroom import Scope
from store.shelf import letter, thread_of

CURSOR = FolderCursor(uidvalidity=17, top=40, bottom=0, since=None, before_since=0)


async def put(
    database: Database, scope: Scope, words: Mapping[int, str], name: str = "INBOX", uidvalidity: int = 17
) -> None:
    """UIDs with these dispositions; those that are stored are all one message."""
    async with database.transaction() as connection:
        if (await connection.execute(text("SELECT count(*) FROM message"))).scalar() == 0:
            await thread_of(connection, scope, [letter(scope, "a@x")])
        message = (await connection.execute(text("SELECT id FROM message"))).scalar_one()
        folder = await cursors.move(connection, "sales", name, CURSOR)
        rows = [(uid, message if word == STORED else None, word) for uid, word in words.items()]
        await cursors.record(connection, folder, uidvalidity, rows)


async def runs(database: Database, low: int = 1, high: int = 2**63 - 1) -> list[tuple[int, int, str]]:
    async with database.reading() as connection:
        found = await ledger.runs(connection, "sales", "INBOX", 17, low, high)
    assert all(isinstance(run, Run) for run in found)
    return [(run.low, run.high, run.disposition) for run in found]


async def test_neighbours_with_the_same_word_are_one_run(database: Database, scope: Scope) -> None:
    words = {1: STORED, 2: STORED, 3: QUARANTINED, 4: STORED, 5: GONE, 6: GONE, 8: GONE, 30: "filtered:x"}
    await put(database, scope, words)

    assert await runs(database) == [
        (1, 2, STORED), (3, 3, QUARANTINED), (4, 4, STORED), (5, 6, GONE), (8, 8, GONE), (30, 30, "filtered:x")
    ]  # fmt: skip
    assert await runs(database, 2, 5) == [(2, 2, STORED), (3, 3, QUARANTINED), (4, 4, STORED), (5, 5, GONE)]
    assert await runs(database, 9, 29) == []


async def test_other_folders_and_other_uidvalidities_say_nothing(database: Database, scope: Scope) -> None:
    await put(database, scope, {1: STORED}, name="Sent")
    await put(database, scope, {2: STORED}, uidvalidity=16)
    await put(database, scope, {3: STORED})

    assert await runs(database) == [(3, 3, STORED)]


async def test_a_stored_message_that_is_not_there_is_lost(database: Database, scope: Scope) -> None:
    await put(database, scope, {1: STORED, 2: STORED, 3: STORED, 4: QUARANTINED})
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE occurrence SET message = NULL WHERE uid = 2"))

    assert await runs(database) == [(1, 1, STORED), (2, 2, "lost"), (3, 3, STORED), (4, 4, QUARANTINED)]


async def test_a_large_folder_is_few_runs(database: Database, scope: Scope) -> None:
    await put(database, scope, {uid: STORED for uid in range(1, 3_001) if uid != 1_500})

    assert await runs(database) == [(1, 1_499, STORED), (1_501, 3_000, STORED)]


async def test_an_audit_is_noted_for_its_folder(database: Database, scope: Scope) -> None:
    await put(database, scope, {})
    await put(database, scope, {}, name="Sent")
    async with database.transaction() as connection:
        await ledger.note_audit(connection, "sales", "INBOX", 3, datetime(2026, 11, 22, 9, tzinfo=UTC))
        await ledger.note_audit(connection, "sales", "never read", 1, datetime(2026, 11, 22, 9, tzinfo=UTC))
    async with database.reading() as connection:
        found = await cursors.folders(connection)

    assert [(each["folder"], each["missing"], each["audited_at"]) for each in found] == [
        ("INBOX", 3, "2026-11-22T09:00:00Z"),
        ("Sent", None, None),
    ]
