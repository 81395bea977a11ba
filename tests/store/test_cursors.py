"""How far each folder has been read, and what became of every UID."""

from dataclasses import replace
from datetime import date

from sqlalchemy import select

from maillinkd.mail.delivery import FolderCursor, Stand
from maillinkd.store import cursors, mailroom
from maillinkd.store.cursors import GONE, QUARANTINED, STORED
from maillinkd.store.database import Database
from maillinkd.store.mailroom import Scope
from maillinkd.store.schema import occurrence
from store.shelf import at, letter, store, thread_of

CURSOR = FolderCursor(uidvalidity=17, top=40, bottom=31, since=date(2025, 1, 1), before_since=9)


async def _dispositions(database: Database) -> dict[int, tuple[int | None, str]]:
    async with database.reading() as connection:
        return {row.uid: (row.message, row.disposition) for row in await connection.execute(select(occurrence))}


async def test_a_folder_never_read_has_no_cursor(database: Database) -> None:
    async with database.reading() as connection:
        assert await cursors.cursor(connection, "sales", "INBOX") is None
        assert await cursors.folders(connection) == []


async def test_a_cursor_stands_where_it_was_moved_and_the_folder_keeps_its_number(database: Database) -> None:
    moved = replace(CURSOR, top=41, bottom=0, since=None)
    async with database.transaction() as connection:
        first = await cursors.move(connection, "sales", "INBOX", CURSOR)
        other = await cursors.move(connection, "sales", "Entw\u00fcrfe", replace(CURSOR, top=1))
        assert await cursors.cursor(connection, "sales", "INBOX") == CURSOR
        again = await cursors.move(connection, "sales", "INBOX", moved)

        assert (first == again, first == other) == (True, False)
        assert await cursors.cursor(connection, "sales", "INBOX") == moved
        assert await cursors.cursor(connection, "support", "INBOX") is None


async def test_how_a_folder_stood_is_kept_beside_its_cursor_until_it_is_numbered_anew(database: Database) -> None:
    stand = Stand(17, 41, 2**40, 2**62, True, at(0))
    bare = Stand(17, None, 0, None, False, at(1))
    async with database.transaction() as connection:
        await cursors.settle(connection, "sales", "INBOX", stand)
        assert await cursors.cursor(connection, "sales", "INBOX") is None
        await cursors.move(connection, "sales", "INBOX", CURSOR)
        for each in (stand, bare):
            await cursors.settle(connection, "sales", "INBOX", each)
            await cursors.move(connection, "sales", "INBOX", replace(CURSOR, top=99))
            found = await cursors.cursor(connection, "sales", "INBOX")
            assert (found, found and found.stand) == (replace(CURSOR, top=99), each)
        await cursors.move(connection, "sales", "INBOX", replace(CURSOR, uidvalidity=18))
        renumbered = await cursors.cursor(connection, "sales", "INBOX")

    assert renumbered is not None
    assert renumbered.stand is None


async def test_a_cursor_moves_with_what_its_transaction_files_or_not_at_all(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as connection:
            await cursors.move(connection, "sales", "INBOX", CURSOR)
            raise KeyError("cut off")

    try:
        await fail()
    except KeyError:
        async with database.reading() as connection:
            assert await cursors.cursor(connection, "sales", "INBOX") is None


async def test_every_uid_with_a_disposition_is_known(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        await thread_of(connection, scope, [letter(scope, "a@x")])
        (number,) = (await mailroom.known_identities(connection, [letter(scope, "a@x").identity])).values()
        folder = await cursors.move(connection, "sales", "INBOX", CURSOR)
        found = [(3, number, STORED), (4, None, "filtered:bulk"), (9, None, QUARANTINED)]
        await cursors.record(connection, folder, 17, found)
        await cursors.record(connection, folder, 16, [(5, None, STORED)])

        assert await cursors.known_uids(connection, "sales", "INBOX", 17, 1, 99) == {3, 4, 9}
        assert await cursors.known_uids(connection, "sales", "INBOX", 17, 4, 8) == {4}
        assert await cursors.known_uids(connection, "sales", "INBOX", 18, 1, 99) == set()
        assert await cursors.known_uids(connection, "support", "INBOX", 17, 1, 99) == set()


async def test_a_replayed_batch_doubles_nothing_and_the_newest_word_holds(database: Database) -> None:
    async with database.transaction() as connection:
        folder = await cursors.move(connection, "sales", "INBOX", CURSOR)
        for disposition in (QUARANTINED, STORED, STORED):
            await cursors.record(connection, folder, 17, [(3, None, disposition)])

    assert await _dispositions(database) == {3: (None, STORED)}


async def test_what_is_gone_is_marked_and_its_message_stays(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        (number,) = await store(connection, scope.id, [letter(scope, "a@x")])
        folder = await cursors.move(connection, "sales", "INBOX", CURSOR)
        await cursors.record(connection, folder, 17, [(3, number, STORED), (4, None, STORED)])
        await cursors.gone(connection, folder, 17, [3, 7])

    assert await _dispositions(database) == {3: (number, GONE), 4: (None, STORED), 7: (None, GONE)}


async def test_imported_mail_lies_in_the_mailbox_but_in_no_folder_of_the_server(database: Database) -> None:
    async with database.transaction() as connection:
        number = await cursors.imported_folder(connection, "sales")

        assert await cursors.imported_folder(connection, "sales") == number
        assert await cursors.imported_folder(connection, "support") != number
        assert await cursors.folders(connection) == []


async def test_a_thread_lies_in_every_mailbox_of_its_messages(database: Database, scope: Scope) -> None:
    """Row 6."""
    async with database.transaction() as connection:
        both = await thread_of(connection, scope, [letter(scope, "a@x"), letter(scope, "b@x")])
        none = await thread_of(connection, scope, [letter(scope, "c@x")])
        identities = [letter(scope, name).identity for name in ("a@x", "b@x")]
        numbers = await mailroom.known_identities(connection, identities)
        for mailbox, identity in zip(("sales", "support"), identities, strict=True):
            folder = await cursors.move(connection, mailbox, "INBOX", CURSOR)
            await cursors.record(connection, folder, 17, [(3, numbers[identity], STORED)])

        assert await cursors.mailboxes_of(connection, [both, none]) == {both: {"sales", "support"}}


async def test_folders_are_listed_for_status(database: Database) -> None:
    async with database.transaction() as connection:
        await cursors.move(connection, "sales", "Sent", replace(CURSOR, bottom=0, since=None))
        await cursors.move(connection, "sales", "INBOX", CURSOR)
        listed = await cursors.folders(connection)

    assert [(each["folder"], each["first_sync_done"], each["since"]) for each in listed] == [
        ("INBOX", False, "2025-01-01"),
        ("Sent", True, None),
    ]


async def test_the_last_report_of_a_mailbox_is_kept(database: Database) -> None:
    async with database.transaction() as connection:
        await cursors.report(connection, "sales", {"state": "connecting"}, at(0))
        await cursors.report(connection, "sales", {"state": "idle"}, at(1))

        assert await cursors.reports(connection) == {"sales": {"state": "idle"}}


async def test_a_lease_is_one_holder_s_until_it_ends(database: Database) -> None:
    async with database.transaction() as connection:
        assert await cursors.take_lease(connection, "sales", "one", at(0), at(5)) is None
        assert await cursors.take_lease(connection, "sales", "other", at(1), at(6)) == "one"
        assert await cursors.take_lease(connection, "sales", "one", at(4), at(9)) is None, "renewed"
        assert await cursors.take_lease(connection, "sales", "other", at(6), at(11)) == "one"
        assert await cursors.take_lease(connection, "sales", "other", at(9), at(14)) is None, "it had ended"
        assert await cursors.take_lease(connection, "sales", "one", at(10), at(15)) == "other"


async def test_a_lease_given_back_is_free_and_only_its_holder_can_give_it_back(database: Database) -> None:
    async with database.transaction() as connection:
        await cursors.take_lease(connection, "sales", "one", at(0), at(5))
        await cursors.drop_lease(connection, "sales", "other")
        assert await cursors.take_lease(connection, "sales", "other", at(1), at(6)) == "one"
        await cursors.drop_lease(connection, "sales", "one")
        assert await cursors.take_lease(connection, "sales", "other", at(1), at(6)) is None
