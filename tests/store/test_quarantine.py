"""Mail that could not be read, or was not trusted, with its bytes."""

from dataclasses import replace

from sqlalchemy import text

from maillinkd.mail.delivery import FolderCursor
from maillinkd.store import cursors, ledger, quarantine
from maillinkd.store.database import Database
from maillinkd.store.quarantine import UNKNOWN_SENDER, UNREADABLE, Held
from store.shelf import at

BCC = Held(
    digest=b"1" * 32,
    channel="smart_bcc",
    reason=UNKNOWN_SENDER,
    error="mallory@x.example is no user's address",
    message_id="a@x.example",
    received_at=at(0),
    size=2_000,
    raw=b"Subject: New roof\r\n\r\n\x00\xff" * 80,
    sender="mallory@x.example",
    recipients=("ourco@bcc.ourco.example",),
    author="mallory@x.example",
)


async def _hold(database: Database, *held: Held, minutes: int = 0) -> None:
    async with database.transaction() as connection:
        await quarantine.hold(connection, held, at(minutes))


async def _listing(database: Database) -> list[Held]:
    async with database.reading() as connection:
        return await quarantine.listing(connection)


async def test_mail_comes_back_with_its_bytes(database: Database) -> None:
    await _hold(database, BCC, minutes=7)
    (held,) = await _listing(database)

    assert held == replace(BCC, number=held.number, held_at=at(7))
    async with database.reading() as connection:
        assert await quarantine.get(connection, held.number) == held


async def test_the_same_mail_is_held_once(database: Database) -> None:
    await _hold(database, BCC, BCC)
    await _hold(database, replace(BCC, error="again"), replace(BCC, digest=b"2" * 32))

    assert [each.digest for each in await _listing(database)] == [BCC.digest, b"2" * 32]


async def test_nothing_to_hold_is_nothing_to_do(database: Database) -> None:
    await _hold(database)

    assert await _listing(database) == []


async def test_a_synced_mail_is_held_with_its_place(database: Database) -> None:
    async with database.transaction() as connection:
        folder = await cursors.move(connection, "sales", "INBOX", FolderCursor(17, 3, 0, None, 0))
    await _hold(database, Held(b"3" * 32, "imap", UNREADABLE, "", "", at(0), 9, b"raw", folder=folder,
                               uidvalidity=17, uid=3))  # fmt: skip
    (held,) = await _listing(database)

    assert (held.mailbox, held.folder, held.uidvalidity, held.uid) == ("sales", folder, 17, 3)


async def test_text_that_no_database_can_hold_does_not_keep_a_mail_out(database: Database) -> None:
    await _hold(database, replace(BCC, error="NUL \x00", message_id="\udcff@x", sender="\udcff", author="\x00"))
    (held,) = await _listing(database)

    assert (held.error, held.message_id, held.sender, held.author) == ("NUL \ufffd", "?@x", "?", "\ufffd")
    assert held.raw == BCC.raw


async def test_dropped_mail_is_gone_and_only_once(database: Database) -> None:
    await _hold(database, BCC)
    async with database.transaction() as connection:
        (held,) = await quarantine.listing(connection)
        assert await quarantine.count(connection) == 1
        assert await quarantine.drop(connection, held.number) is True
        assert await quarantine.drop(connection, held.number) is False
        assert await quarantine.get(connection, held.number) is None
        assert await quarantine.count(connection) == 0


UNREAD = replace(BCC, digest=b"4" * 32, reason=UNREADABLE, received_at=at(60))


async def test_what_is_held_is_measured_counted_and_found_by_its_reason(database: Database) -> None:
    await _hold(database, BCC, UNREAD, replace(UNREAD, digest=b"5" * 32))
    numbers = [held.number for held in await _listing(database)]

    async with database.reading() as connection:
        assert await quarantine.reasons(connection) == {UNKNOWN_SENDER: 1, UNREADABLE: 2}
        assert await quarantine.unreadable(connection) == numbers[1:]
        assert 3 * 30 < await quarantine.size(connection) < 3 * len(BCC.raw)


async def test_of_nothing_there_is_nothing(database: Database) -> None:
    async with database.transaction() as connection:
        assert await quarantine.reasons(connection) == {}
        assert await quarantine.unreadable(connection) == []
        assert await quarantine.size(connection) == 0
        assert await quarantine.expire(connection, at(0)) == {}


async def test_why_a_mail_is_held_may_change_and_its_bytes_do_not(database: Database) -> None:
    await _hold(database, UNREAD)
    (held,) = await _listing(database)
    async with database.transaction() as connection:
        await quarantine.change(connection, held.number, replace(BCC, error="NUL \x00"))

    expected = replace(held, reason=UNKNOWN_SENDER, error="NUL \ufffd", message_id=BCC.message_id, author=BCC.author)
    assert await _listing(database) == [expected]


async def test_what_was_held_for_too_long_is_dropped_and_counted(database: Database) -> None:
    await _hold(database, BCC, minutes=0)
    await _hold(database, UNREAD, minutes=60)
    async with database.transaction() as connection:
        assert await quarantine.expire(connection, at(60)) == {UNKNOWN_SENDER: 1}

    assert [held.digest for held in await _listing(database)] == [UNREAD.digest]


async def test_the_days_of_a_mail_count_from_when_it_was_held_not_from_its_own_date(database: Database) -> None:
    await _hold(database, replace(BCC, received_at=at(-525_600)), minutes=60)
    async with database.transaction() as connection:
        assert await quarantine.expire(connection, at(60)) == {}
        assert await quarantine.expire(connection, at(61)) == {UNKNOWN_SENDER: 1}


async def test_a_mail_that_comes_again_is_held_no_longer(database: Database) -> None:
    await _hold(database, BCC, minutes=0)
    await _hold(database, BCC, minutes=60)

    assert [held.held_at for held in await _listing(database)] == [at(0)]


async def test_what_a_program_without_that_column_held_is_kept(database: Database) -> None:
    await _hold(database, BCC)
    async with database.transaction() as connection:
        await connection.execute(text("UPDATE quarantine SET held_at = NULL"))
        assert await quarantine.expire(connection, at(10**9)) == {}

    assert [held.held_at for held in await _listing(database)] == [None]


# -- what became of the UID


async def _hold_synced(database: Database, *uids: int, uidvalidity: int = 17) -> int:
    """Holds a mail at each UID of sales's INBOX, and notes it in the ledger. Returns the folder's number."""
    async with database.transaction() as connection:
        folder = await cursors.move(connection, "sales", "INBOX", FolderCursor(uidvalidity, 9, 0, None, 0))
        mails = [
            replace(UNREAD, digest=b"%32d" % uid, channel="imap", folder=folder, uidvalidity=uidvalidity, uid=uid)
            for uid in uids
        ]
        await quarantine.hold(connection, mails, at(0))
        found = [(uid, None, cursors.QUARANTINED) for uid in uids]
        await cursors.record(connection, folder, uidvalidity, found)
    return folder


async def _dispositions(database: Database, uidvalidity: int = 17) -> dict[int, str]:
    async with database.reading() as connection:
        runs = await ledger.runs(connection, "sales", "INBOX", uidvalidity, 1, 9)
    return {uid: run.disposition for run in runs for uid in range(run.low, run.high + 1)}


async def test_a_uid_whose_mail_was_dropped_by_hand_says_so_and_the_others_stay(database: Database) -> None:
    await _hold_synced(database, 1, 2)
    number = (await _listing(database))[0].number
    async with database.transaction() as connection:
        assert await quarantine.drop(connection, number) is True

    assert await _dispositions(database) == {1: quarantine.DROPPED, 2: cursors.QUARANTINED}


async def test_a_uid_whose_mail_was_dropped_by_age_says_so(database: Database) -> None:
    """One that is gone from the server stays gone: were it back, it would have to be read."""
    folder = await _hold_synced(database, 1, 2, 3)
    await _hold(database, BCC)
    async with database.transaction() as connection:
        await cursors.gone(connection, folder, 17, [2])
        assert await quarantine.expire(connection, at(1)) == {UNREADABLE: 3, UNKNOWN_SENDER: 1}

    assert await _dispositions(database) == {1: quarantine.DROPPED, 2: cursors.GONE, 3: quarantine.DROPPED}


async def test_what_is_taken_out_to_be_filed_counts_as_nothing_else(database: Database) -> None:
    await _hold_synced(database, 1)
    (held,) = await _listing(database)
    async with database.transaction() as connection:
        assert await quarantine.take_out(connection, held.number) is True
        assert await quarantine.take_out(connection, held.number) is False

    assert await _dispositions(database) == {1: cursors.QUARANTINED}


async def test_a_mail_that_is_met_again_after_uidvalidity_changed_stands_under_the_new_one(
    database: Database,
) -> None:
    await _hold_synced(database, 1)
    await _hold_synced(database, 1, uidvalidity=18)
    (held,) = await _listing(database)
    async with database.transaction() as connection:
        await quarantine.drop(connection, held.number)

    assert (held.uidvalidity, await _dispositions(database, 18)) == (18, {1: quarantine.DROPPED})


async def test_it_is_told_once_a_day(database: Database) -> None:
    async with database.transaction() as connection:
        told = [await quarantine.tell_today(connection, at(minutes)) for minutes in (0, 1, 1439, 1440, 1500)]

    assert told == [True, False, False, True, False]
