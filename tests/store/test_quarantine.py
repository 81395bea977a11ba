"""Mail that could not be read, or was not trusted, with its bytes."""

from dataclasses import replace

from maillinkd.mail.delivery import FolderCursor
from maillinkd.store import cursors, quarantine
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


async def _hold(database: Database, *held: Held) -> None:
    async with database.transaction() as connection:
        await quarantine.hold(connection, held)


async def _listing(database: Database) -> list[Held]:
    async with database.reading() as connection:
        return await quarantine.listing(connection)


async def test_mail_comes_back_with_its_bytes(database: Database) -> None:
    await _hold(database, BCC)
    (held,) = await _listing(database)

    assert held == replace(BCC, number=held.number)
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


async def test_old_mail_is_dropped_and_counted(database: Database) -> None:
    await _hold(database, BCC, UNREAD)
    async with database.transaction() as connection:
        assert await quarantine.expire(connection, at(60)) == {UNKNOWN_SENDER: 1}

    assert [held.digest for held in await _listing(database)] == [UNREAD.digest]


async def test_it_is_told_once_a_day(database: Database) -> None:
    async with database.transaction() as connection:
        told = [await quarantine.tell_today(connection, at(minutes)) for minutes in (0, 1, 1439, 1440, 1500)]

    assert told == [True, False, False, True, False]
