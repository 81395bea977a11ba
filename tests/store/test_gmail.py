"""What Gmail alone says of messages."""

from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.delivery import FolderCursor, GmailMarks
from maillinkd.store import cursors, gmail, mailroom
from maillinkd.store.database import Database
from maillinkd.store.gmail import Labelled
from maillinkd.store.mailroom import Scope
from store.shelf import letter, store

LARGEST = (1 << 64) - 1
NOWHERE = FolderCursor(1, 0, 0, None, 0)


async def lay(
    database: Database,
    scope: Scope,
    mailbox: str,
    folder: str,
    uid: int,
    marks: GmailMarks,
    message: int | None = None,
) -> int:
    """A message in a folder of Gmail, by default a new one; its number."""
    async with database.transaction() as connection:
        if message is None:
            (message,) = await store(connection, scope.id, [letter(scope, f"{mailbox}-{folder}-{uid}@x")])
        number = await cursors.move(connection, mailbox, folder, NOWHERE)
        await cursors.record(connection, number, 1, [(uid, message, cursors.STORED)])
        await gmail.record(connection, number, 1, {uid: marks})
    return message


async def test_a_mailbox_knows_its_messages_by_gmail_s_numbers(database: Database, scope: Scope) -> None:
    small, large = GmailMarks(7, 1, ()), GmailMarks(LARGEST, LARGEST, ())
    first = await lay(database, scope, "anna", "INBOX", 1, small)
    second = await lay(database, scope, "anna", "INBOX", 2, large)

    async with database.reading() as connection:
        known = await gmail.known(connection, "anna", "anna", "imap", [small, large, GmailMarks(8, 0, ())])

    assert known == {7: first, LARGEST: second}


async def test_numbers_mean_nothing_in_another_mailbox_or_scope(database: Database, scope: Scope) -> None:
    """Each account counts for itself, and scopes share nothing (threading.md T1)."""
    marks = GmailMarks(7, 1, ())
    await lay(database, scope, "anna", "INBOX", 1, marks)
    async with database.transaction() as connection:
        await mailroom.lock_scope(connection, "ben", "imap")

    async with database.reading() as connection:
        assert await gmail.known(connection, "anna2", "anna", "imap", [marks]) == {}
        assert await gmail.known(connection, "anna", "ben", "imap", [marks]) == {}
        assert await gmail.known(connection, "anna", "anna", "smart_bcc", [marks]) == {}


async def test_labels_of_all_places_together(database: Database, scope: Scope) -> None:
    """In a folder Gmail leaves out the label of that folder."""
    number = await lay(database, scope, "anna", "INBOX", 1, GmailMarks(7, 5, ("Kunden/Müller",)))
    await lay(database, scope, "anna", "All", 9, GmailMarks(7, 5, ("\\Inbox", "Kunden/Müller")), number)
    plain = await lay(database, scope, "anna", "INBOX", 2, GmailMarks(8, 0, ()))

    async with database.reading() as connection:
        found = await gmail.of_messages(connection, [number, plain, 99])

    assert found == {number: Labelled(("Kunden/Müller", "\\Inbox"), 5), plain: Labelled((), None)}


async def test_the_newest_word_holds(database: Database, scope: Scope) -> None:
    number = await lay(database, scope, "anna", "INBOX", 1, GmailMarks(7, 5, ("old",)))
    await lay(database, scope, "anna", "INBOX", 1, GmailMarks(7, 5, ("new",)), number)

    async with database.reading() as connection:
        assert (await gmail.of_messages(connection, [number]))[number].labels == ("new",)


async def test_nothing_is_asked_where_nothing_is_there(database: Database) -> None:
    async with database.transaction() as connection:
        await gmail.record(connection, 1, 1, {})
        assert await gmail.known(connection, "anna", "anna", "imap", []) == {}


@given(st.integers(min_value=0, max_value=LARGEST))
def test_every_number_of_64_bits_comes_back(number: int) -> None:
    signed = gmail._signed(number)

    assert -(1 << 63) <= signed < 1 << 63
    assert gmail._unsigned(signed) == number
