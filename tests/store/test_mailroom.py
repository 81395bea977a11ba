"""Messages, their ids and their threads."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError

from maillinkd.directory.item import ItemRef
from maillinkd.mail.message import Participant, Role
from maillinkd.mail.threads import Known, Size, node
from maillinkd.store import links, mailroom
from maillinkd.store.database import Database, open_database
from maillinkd.store.mailroom import Scope
from maillinkd.store.schema import message, participant, raw_message, thread
from store.shelf import at, letter, open_threads, store, thread_of


async def test_a_scope_is_made_once_and_found_again(database: Database) -> None:
    found = []
    for _ in range(2):
        async with database.transaction() as connection:
            found.append(await mailroom.lock_scope(connection, "anna", "imap"))

    assert found[0] == found[1] == Scope(found[0].id, "anna", "imap", b"")


async def test_owner_and_channel_make_a_scope_each(database: Database) -> None:
    async with database.transaction() as connection:
        ids = {
            (await mailroom.lock_scope(connection, owner, channel)).id
            for owner in ("anna", "bert")
            for channel in ("imap", "smart_bcc")
        }

    assert len(ids) == 4


async def test_whoever_has_locked_a_scope_is_alone_in_it(database: Database, database_url: str) -> None:
    """Also where the scope is new to both."""
    other = open_database(database_url)
    order: list[str] = []
    locked = asyncio.Event()

    async def first() -> None:
        async with database.transaction() as connection:
            await mailroom.lock_scope(connection, "anna", "imap")
            locked.set()
            for _ in range(20):
                await connection.execute(select(func.count()).select_from(thread))
            order.append("first")

    async def second() -> None:
        await locked.wait()
        async with other.transaction() as connection:
            await mailroom.lock_scope(connection, "anna", "imap")
            order.append("second")

    await asyncio.gather(first(), second())

    assert order == ["first", "second"]
    await other.close()


async def test_a_message_comes_back_as_it_was_stored(database: Database, scope: Scope) -> None:
    new = replace(
        letter(
            scope,
            "a@x",
            people={
                "berta@acme.example": Role.FROM,
                "anna@ourco.example": Role.TO,
                "carl@acme.example": Role.FORWARDED,
            },
        ),
        made_id=True,
        sent_at=at(0) + timedelta(microseconds=1),
        refers=("earlier@x", "earliest@x"),
        last_reference=node(scope.id, "earliest@x"),
        forward=True,
        detached=True,
        names=ItemRef.parse("deal:D-61"),
        marks=frozenset({"smart_bcc_duplicate", "bridge"}),
        undecided=True,
    )
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, [new])
    async with database.reading() as connection:
        ((stored,),) = (await mailroom.messages_of(connection, [label])).values()

    assert stored == mailroom.Stored(
        id=stored.id,
        evidence={"carl@acme.example": "inline"},
        **{
            name: getattr(new, name)
            for name in mailroom.Stored.__slots__
            if name not in ("id", "evidence")
        },
    )  # fmt: skip


async def test_messages_come_in_order_of_sent_time_then_message_id(database: Database, scope: Scope) -> None:
    letters = [letter(scope, "z@x", minutes=1), letter(scope, "b@x", minutes=2), letter(scope, "a@x", minutes=2)]
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, letters)
        found = await mailroom.messages_of(connection, [label])

    assert [each.message_id for each in found[label]] == ["z@x", "a@x", "b@x"]


async def test_numbers_are_given_in_the_order_of_the_messages(database: Database, scope: Scope) -> None:
    letters = [letter(scope, f"{n}@x") for n in range(1_200)]
    async with database.transaction() as connection:
        numbers = await store(connection, scope.id, letters)
        rows = await connection.execute(select(message.c.message_id).order_by(message.c.id))

    assert numbers == sorted(set(numbers))
    assert rows.scalars().all() == [each.message_id for each in letters]


async def test_numbers_go_on_where_the_last_transaction_ended(database: Database, scope: Scope) -> None:
    numbers = []
    for n in range(3):
        async with database.transaction() as connection:
            numbers += await store(connection, scope.id, [letter(scope, f"{n}@x")])

    assert numbers == sorted(set(numbers))


async def test_the_same_message_is_not_stored_twice(database: Database, scope: Scope) -> None:
    """T11: the identity is unique in the database, whoever asked before writing."""
    async with database.transaction() as connection:
        await store(connection, scope.id, [letter(scope, "a@x")])
    with pytest.raises(IntegrityError):
        async with database.transaction() as connection:
            await store(connection, scope.id, [letter(scope, "a@x")])


async def test_known_identities_are_those_stored(database: Database, scope: Scope) -> None:
    one, other = letter(scope, "a@x"), letter(scope, "b@x")
    async with database.transaction() as connection:
        (number,) = await store(connection, scope.id, [one])

        assert await mailroom.known_identities(connection, [one.identity, other.identity]) == {one.identity: number}
        assert await mailroom.known_identities(connection, []) == {}


def test_an_identity_belongs_to_its_scope_and_to_its_node() -> None:
    """The same mail in two scopes, and a copy for another item (L16 c), are messages of their own."""
    identities = {
        mailroom.identity_in(1, b"mail", b"node"),
        mailroom.identity_in(2, b"mail", b"node"),
        mailroom.identity_in(1, b"mail", b"copy"),
        mailroom.identity_in(1, b"other", b"node"),
    }

    assert len(identities) == 4


async def test_nodes_are_known_with_their_marks_and_change_hands(database: Database, scope: Scope) -> None:
    a, b, c = (node(scope.id, name) for name in "abc")
    async with database.transaction() as connection:
        one, other = await open_threads(connection, scope.id, 2)
        await mailroom.write_nodes(connection, {a: Known(one, True, False), b: Known(one, False, False)})
        await mailroom.write_nodes(connection, {b: Known(other, True, True)})

        assert await mailroom.known_nodes(connection, [a, b, c]) == {
            a: Known(one, borne=True, detached=False),
            b: Known(other, borne=True, detached=True),
        }
        assert await mailroom.borne(connection, [a, b, c]) == {a, b}


async def test_heard_of_is_not_borne(database: Database, scope: Scope) -> None:
    a = node(scope.id, "a")
    async with database.transaction() as connection:
        (label,) = await open_threads(connection, scope.id, 1)
        await mailroom.write_nodes(connection, {a: Known(label, False, False)})

        assert await mailroom.borne(connection, [a]) == set()


async def test_a_new_thread_is_empty_and_has_a_size(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        labels = await open_threads(connection, scope.id, 3)

        assert len(set(labels)) == 3
        assert await mailroom.thread_sizes(connection, labels) == dict.fromkeys(labels, Size(0, 0))
        assert await mailroom.scopes_of(connection, labels) == dict.fromkeys(labels, ("anna", "imap"))
        assert await open_threads(connection, scope.id, 0) == []


async def test_the_bytes_lie_there_once_whatever_the_scopes(database: Database) -> None:
    raw = b"Subject: New roof\r\n\r\nHello\r\n" * 100
    async with database.transaction() as connection:
        for _ in ("anna", "bert"):
            await mailroom.store_raw(connection, mailroom.pack([raw]))
        (row,) = (await connection.execute(select(raw_message))).all()

    assert (row.sha256, row.size) == (sha256(raw).digest(), len(raw))
    assert len(row.compressed) < len(raw)


@pytest.mark.parametrize("size", [0, 1, mailroom.PIECE - 1, mailroom.PIECE, mailroom.PIECE + 1, 3 * mailroom.PIECE])
async def test_a_message_of_any_size_comes_back_as_it_was(database: Database, size: int) -> None:
    raw = random.Random(size).randbytes(size)
    async with database.transaction() as connection:
        await mailroom.store_raw(connection, mailroom.pack([raw]))
        assert await mailroom.raw(connection, sha256(raw).digest()) == raw
        assert await mailroom.raw(connection, sha256(b"another").digest()) is None


async def test_people_are_found_with_and_without_their_tags(database: Database, scope: Scope) -> None:
    people = {"berta+roof@acme.example": Role.FROM, "+odd@acme.example": Role.CC}
    async with database.transaction() as connection:
        await store(connection, scope.id, [letter(scope, "a@x", people=people)])
        found = await connection.execute(select(participant.c.address))

    assert set(found.scalars()) == {"berta+roof@acme.example", "berta@acme.example", "+odd@acme.example"}


async def test_who_takes_part_twice_is_found_once(database: Database, scope: Scope) -> None:
    twice = (Participant(Role.FROM, "berta@acme.example"), Participant(Role.CC, "berta@acme.example"))
    async with database.transaction() as connection:
        await store(connection, scope.id, [replace(letter(scope, "a@x"), participants=twice)])
        found = await connection.execute(select(participant.c.address))

    assert found.scalars().all() == ["berta@acme.example"]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("plain", "plain"),
        ("Grüße 漢字 \U0001f600", "Grüße 漢字 \U0001f600"),
        ("NUL \x00 in it", "NUL \ufffd in it"),
        ("bytes that were no UTF-8 \udcff", "bytes that were no UTF-8 ?"),
    ],
)
async def test_any_text_can_be_stored(database: Database, scope: Scope, given: str, kept: str) -> None:
    """The ids that a message refers to are kept to the byte: they are compared, the rest is shown."""
    assert mailroom.storable(given) == kept
    new = replace(letter(scope, "a@x"), message_id=given, subject=given, base_subject=given, refers=(given,))
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, [new])
        ((stored,),) = (await mailroom.messages_of(connection, [label])).values()

    assert (stored.message_id, stored.subject, stored.base_subject, stored.refers) == (kept, kept, kept, (given,))


async def test_a_merge_relabels_ids_and_leaves_the_old_numbers_as_aliases(database: Database, scope: Scope) -> None:
    """threading.md, "In SQL": the survivor of the relabelling keeps the older thread's number."""
    async with database.transaction() as connection:
        oldest = await thread_of(connection, scope, [letter(scope, "a@x")])
        biggest = await thread_of(connection, scope, [letter(scope, f"{n}@x") for n in range(3)])
        await mailroom.relabel(connection, biggest, [oldest])
        await mailroom.bury(connection, biggest, [oldest], number=oldest, aliases=[biggest])

        known = await mailroom.known_nodes(connection, [node(scope.id, name) for name in ("a@x", "0@x")])
        assert {each.thread for each in known.values()} == {biggest}
        assert await links.label_of(connection, oldest) == biggest
        assert await links.label_of(connection, biggest) == biggest


async def test_aliases_follow_through_merge_after_merge(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        one, two, three = [await thread_of(connection, scope, [letter(scope, f"{n}@x")]) for n in range(3)]
        await mailroom.relabel(connection, two, [three])
        await mailroom.bury(connection, two, [three], number=two, aliases=[three])
        await mailroom.relabel(connection, two, [one])
        await mailroom.bury(connection, two, [one], number=one, aliases=[two])

        assert [await links.label_of(connection, number) for number in (one, two, three)] == [two, two, two]
        assert await links.label_of(connection, 4711) is None


async def test_marks_are_set_and_messages_settled(database: Database, scope: Scope) -> None:
    new = replace(letter(scope, "a@x"), undecided=True)
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, [new])
        ((stored,),) = (await mailroom.messages_of(connection, [label])).values()
        assert await mailroom.undecided_threads(connection, 10) == [("anna", "imap", label)]

        await mailroom.mark(connection, {stored.id: frozenset({"bridge"})})
        await mailroom.settle(connection, [stored.id])

        ((stored,),) = (await mailroom.messages_of(connection, [label])).values()
        assert (stored.marks, stored.undecided) == (frozenset({"bridge"}), False)
        assert await mailroom.undecided_threads(connection, 10) == []


@pytest.mark.parametrize("stored_in", ["in one order", "in the other"])
async def test_messages_of_one_id_and_time_come_by_what_tells_them_apart(
    database: Database, scope: Scope, stored_in: str
) -> None:
    """T11, L26: not by which of them was stored first."""
    plain = letter(scope, "a@x")
    twins = [
        replace(plain, identity=b"1" * 16, subject="one", participants=(Participant(Role.FROM, "z@acme.example"),)),
        replace(plain, identity=b"2" * 16, subject="two", participants=(Participant(Role.FROM, "a@acme.example"),)),
        replace(plain, identity=b"3" * 16, subject="two", participants=(Participant(Role.FROM, "b@acme.example"),)),
    ]
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, twins if stored_in == "in one order" else twins[::-1])
        found = await mailroom.messages_of(connection, [label])

    assert [(each.subject, each.participants[0].address) for each in found[label]] == [
        ("one", "z@acme.example"),
        ("two", "a@acme.example"),
        ("two", "b@acme.example"),
    ]


async def test_settled_messages_are_to_be_decided_again_when_unsettled(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        label = await thread_of(connection, scope, [letter(scope, "a@x"), letter(scope, "b@x", minutes=1)])
        first, second = (await mailroom.messages_of(connection, [label]))[label]
        assert await mailroom.undecided_threads(connection, 10) == []

        await mailroom.unsettle(connection, [second.id])

        assert await mailroom.undecided_threads(connection, 10) == [("anna", "imap", label)]
        found = (await mailroom.messages_of(connection, [label]))[label]
        assert {each.id: each.undecided for each in found} == {first.id: False, second.id: True}
