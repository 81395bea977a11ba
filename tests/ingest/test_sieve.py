"""Mail that is left out by choice: counted, with its reason, and never by surprise."""

from typing import Any

import pytest
from sqlalchemy import select

from ingest.scene import ANNA, CARLA, CLIENT, DORA, Scene, batch, fetched, hours, letter, office_with, slot
from maillinkd.ingest import imports
from maillinkd.ingest.office import Office
from maillinkd.ingest.sieve import Filtered, because, left_out, without_body
from maillinkd.mail.message import Message, parse
from maillinkd.store import schema

NEWS = b"List-Id: <news.client.example>\r\n"


def message(raw: bytes) -> Message:
    return parse(raw, received_at=hours(0), size=len(raw))


def office(**policy: Any) -> Office:
    return office_with(policy=policy)


async def dispositions(scene: Scene) -> dict[tuple[int, int], str]:
    """By UIDVALIDITY and UID, what became of every mail."""
    async with scene.database.reading() as connection:
        rows = await connection.execute(select(schema.occurrence))
        return {(row.uidvalidity, row.uid): row.disposition for row in rows}


@pytest.mark.parametrize(
    ("block", "author", "expected"),
    [
        (["carla@client.example"], CARLA, Filtered.BLOCKED),
        (["Carla@Client.Example"], "CARLA@client.example", Filtered.BLOCKED),
        (["carla@client.example"], DORA, None),
        (["@client.example"], DORA, Filtered.BLOCKED),
        (["@client.example"], "x@news.client.example", Filtered.BLOCKED),
        (["@client.example"], "x@notclient.example", None),
        (["@bücher.example"], "x@xn--bcher-kva.example", Filtered.BLOCKED),
        ([], CARLA, None),
    ],
)
def test_who_is_blocked(block: list[str], author: str, expected: Filtered | None) -> None:
    assert left_out(office(block=block), "anna", message(letter("a@x", sender=author))) is expected


@pytest.mark.parametrize(
    ("block", "author", "entry"),
    [
        (["@other.example", "Carla@Client.Example"], CARLA, "carla@client.example"),
        (["@client.example"], "x@news.client.example", "@client.example"),
    ],
)
def test_the_entry_that_blocks_is_named(block: list[str], author: str, entry: str) -> None:
    mail = message(letter("a@x", sender=author))

    assert because(office(block=block), "anna", mail, Filtered.BLOCKED) == [entry]


def test_the_field_that_makes_it_bulk_is_named() -> None:
    assert because(office(bulk="ignore"), "anna", message(NEWS + letter("a@x")), Filtered.BULK) == [
        "List-Id: <news.client.example>"
    ]


def test_recipients_are_not_blocked() -> None:
    raw = letter("a@x", sender=ANNA, to=CARLA)

    assert left_out(office(block=[CARLA]), "anna", message(raw)) is None


def test_a_block_holds_for_its_owner_and_a_general_one_for_all() -> None:
    chosen = office_with(
        policy={"block": [DORA]},
        users={"anna": {"block": [CARLA]}},
        teams={"support": {"block": ["@client.example"]}},
    )
    carla, dora = (message(letter("a@x", sender=each)) for each in (CARLA, DORA))

    found = {owner: [left_out(chosen, owner, each) for each in (carla, dora)] for owner in ("anna", "ben", "support")}

    blocked = Filtered.BLOCKED
    assert found == {"anna": [blocked, blocked], "ben": [None, blocked], "support": [blocked, blocked]}


@pytest.mark.parametrize(
    ("bulk", "expected"), [("store", (None, False)), ("metadata", (None, True)), ("ignore", (Filtered.BULK, False))]
)
def test_bulk_mail_is_what_the_policy_makes_of_it(bulk: str, expected: tuple[Filtered | None, bool]) -> None:
    chosen, mail = office(bulk=bulk), message(NEWS + letter("a@x"))

    assert (left_out(chosen, "anna", mail), without_body(chosen, mail)) == expected
    assert (left_out(chosen, "anna", message(letter("a@x"))), without_body(chosen, message(letter("a@x")))) == (
        None,
        False,
    )


async def test_what_is_left_out_has_its_reason_and_opens_no_thread(either: Scene) -> None:
    either.house.office = office(bulk="ignore", block=[DORA])
    await either.know(*CLIENT)

    await either.arrive(letter("a@x"), NEWS + letter("b@x"), letter("c@x", sender=DORA))

    assert await dispositions(either) == {(1, 1): "stored", (1, 2): "filtered:bulk", (1, 3): "filtered:blocked"}
    assert [(await either.thread()).message_ids, slot(await either.thread())] == [("<a@x>",), "deal:61"]
    assert await either.synced.known_uids("anna", "INBOX", 1, 1, 9) == {1, 2, 3}
    assert (await either.cursor()).top == 3  # type: ignore[union-attr]


async def test_a_reply_to_mail_that_was_left_out_is_taken(scene: Scene) -> None:
    scene.house.office = office(bulk="ignore")

    await scene.arrive(NEWS + letter("a@x"), letter("b@x", refers=["a@x"], date=hours(1)))

    thread = await scene.thread()
    assert (thread.message_ids, "start_unknown" in thread.flags) == (("<b@x>",), True)


async def test_with_bulk_as_metadata_the_body_is_not_kept(scene: Scene) -> None:
    scene.house.office = office(bulk="metadata")
    mails = (letter("a@x"), NEWS + letter("b@x"))

    await scene.synced.file(batch(*(fetched(uid, raw, full=True) for uid, raw in enumerate(mails, 1))))

    assert await dispositions(scene) == {(1, 1): "stored", (1, 2): "stored"}
    assert await scene.count("raw_message") == 1


async def test_what_was_left_out_is_left_out_after_a_new_uidvalidity_too(scene: Scene) -> None:
    scene.house.office = office(bulk="ignore")
    await scene.arrive(NEWS + letter("a@x"))

    await scene.synced.file(batch(fetched(7, NEWS + letter("a@x")), uidvalidity=2))

    assert (await dispositions(scene))[2, 7] == "filtered:bulk"
    assert await scene.threads() == []


async def test_what_is_stored_stays_whatever_is_left_out_later(scene: Scene) -> None:
    await scene.arrive(NEWS + letter("a@x"), letter("b@x", sender=DORA))
    scene.house.office = office(bulk="ignore", block=[DORA])

    await scene.synced.file(
        batch(fetched(7, NEWS + letter("a@x")), fetched(8, letter("b@x", sender=DORA)), uidvalidity=2)
    )
    await scene.arrive(NEWS + letter("c@x"), first_uid=3)

    found = await dispositions(scene)
    assert (found[2, 7], found[2, 8], found[1, 3]) == ("stored", "stored", "filtered:bulk")
    assert len(await scene.threads()) == 2


async def test_imported_mail_is_left_out_and_counted(scene: Scene) -> None:
    scene.house.office = office(bulk="ignore", block=[DORA])
    mails = [letter("a@x"), NEWS + letter("b@x"), NEWS + letter("c@x"), letter("d@x", sender=DORA)]

    summary = await imports.import_mail(scene.house, "anna", ((raw, None) for raw in mails), lambda _: None)

    assert (summary.read, summary.new, dict(summary.filtered)) == (4, 1, {"bulk": 2, "blocked": 1})


async def test_smart_bcc_mail_is_never_left_out(scene: Scene) -> None:
    """Its author is a user, who has asked for it."""
    from ingest.scene import received

    scene.house.office = office(bulk="ignore", block=["@ourco.example"])

    await scene.deliver(received(NEWS + letter("a@x", sender=ANNA, to=CARLA)))

    assert (await scene.thread()).message_ids == ("<a@x>",)
