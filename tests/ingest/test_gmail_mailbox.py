"""A Gmail mailbox: each message once whatever the labels, drafts left out, labels shown."""

from ingest.scene import NOON, Scene, batch, fetched, hours, letter
from maillinkd.mail.delivery import Fetched, GmailMarks
from maillinkd.store import schema


def labelled(uid: int, raw: bytes, number: int, *labels: str, thread: int = 0) -> Fetched:
    """What a FETCH from Gmail brings."""
    return fetched(uid, raw)._replace(gmail=GmailMarks(number, thread, labels))


async def dispositions(scene: Scene) -> dict[tuple[int, int], str]:
    async with scene.database.reading() as connection:
        rows = await connection.execute(schema.occurrence.select())
        return {(row.folder, row.uid): row.disposition for row in rows}


async def test_one_gmail_number_is_one_message_even_where_the_ids_differ(either: Scene) -> None:
    """A mail without Message-ID and Date gets its id from the time of receipt, too (threading.md T5)."""
    raw = letter(None, date=None)
    await either.synced.file(batch(labelled(1, raw, 7, "\\Important")))
    later = labelled(5, raw, 7, "\\Inbox")._replace(received_at=hours(3))

    await either.synced.file(batch(later, folder="[Gmail]/All Mail"))

    (message,) = await either.messages()
    assert [(place.folder, place.uid) for place in message.places] == [("INBOX", 1), ("[Gmail]/All Mail", 5)]
    assert message.gmail
    assert message.gmail.labels == ("\\Important", "\\Inbox")


async def test_without_gmail_s_number_they_are_two(scene: Scene) -> None:
    """The test above would pass by itself otherwise."""
    raw = letter(None, date=None)
    await scene.synced.file(batch(fetched(1, raw)))
    await scene.synced.file(batch(fetched(5, raw, received_at=hours(3)), folder="other"))

    assert await scene.count("message") == 2


async def test_the_numbers_of_another_mailbox_are_other_numbers(scene: Scene) -> None:
    await scene.synced.file(batch(labelled(1, letter("a@x"), 7)))
    await scene.synced.file(batch(labelled(1, letter("b@x"), 7), mailbox="anna2"))

    assert await scene.count("message") == 2


async def test_gmail_s_conversation_joins_nothing(scene: Scene) -> None:
    """threading.md T14"""
    mails = labelled(1, letter("a@x"), 7, thread=3), labelled(2, letter("b@x", date=hours(1)), 8, thread=3)

    await scene.synced.file(batch(*mails))

    assert [thread.message_count for thread in await scene.threads()] == [1, 1]


async def test_drafts_are_filtered_and_accounted_for(either: Scene) -> None:
    draft, sent = letter("draft@x"), letter("sent@x", date=hours(1))

    await either.synced.file(batch(labelled(1, draft, 7, "\\Draft"), labelled(2, sent, 8, "\\Sent")))

    assert await dispositions(either) == {(1, 1): "filtered:draft", (1, 2): "stored"}
    assert (await either.thread()).message_ids == ("<sent@x>",)
    assert await either.synced.known_uids("anna", "INBOX", 1, 1, 9) == {1, 2}


async def test_a_batch_of_drafts_alone_moves_the_cursor(scene: Scene) -> None:
    await scene.synced.file(batch(labelled(4, letter("draft@x"), 7, "\\Drafts")))

    cursor = await scene.cursor()
    assert cursor is not None
    assert (cursor.top, await scene.count("thread")) == (4, 0)


async def test_the_same_batch_again_changes_nothing(scene: Scene) -> None:
    again = batch(labelled(1, letter("a@x"), 7, "\\Inbox"), labelled(2, letter("d@x"), 8, "\\Draft"))
    await scene.synced.file(again)
    before = await scene.counts()

    await scene.synced.file(again)

    assert await scene.counts() == before


async def test_mail_from_elsewhere_has_no_rows_there(scene: Scene) -> None:
    await scene.arrive(letter("a@x"))

    (message,) = await scene.messages()
    assert (await scene.count("gmail"), message.gmail, message.received_at) == (0, None, NOON)
