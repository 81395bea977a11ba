"""The append-only journal of decisions, chained by hash."""

import json
import zlib
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select, update

from maillinkd.linker.policy import RULE_VERSION
from maillinkd.store import journal, mailroom
from maillinkd.store.database import Database
from maillinkd.store.journal import Entry
from maillinkd.store.mailroom import Scope
from maillinkd.store.schema import decision
from maillinkd.store.schema import scope as scopes
from store.shelf import at


def entry(thread: int, *, minutes: int = 0, reason: str = "no_item", batch: int | None = None) -> Entry:
    line = {
        "timestamp": "2025-12-15T12:00:00.000Z",
        "thread": thread,
        "mailbox": "sales",
        "reason": reason,
        "subject": "Gr\u00fc\u00dfe \u2603",
    }
    return Entry(thread, at(minutes), line, {"letters": [thread]}, batch)


async def _append(database: Database, *entries: Entry, owner: str = "anna", instance: str = "one") -> list[int]:
    async with database.transaction() as connection:
        place = await mailroom.lock_scope(connection, owner, "imap")
        numbers, _ = await journal.append(connection, place, entries, instance)
        return numbers


async def _rows(database: Database, scope: Scope) -> Sequence[Any]:
    async with database.reading() as connection:
        query = select(decision).where(decision.c.scope == scope.id).order_by(decision.c.id)
        return (await connection.execute(query)).all()


async def _is_whole(database: Database, scope: Scope) -> bool:
    """Recomputes the chain of a scope from its lines and digests, and the digests from salt and facts."""
    chain = b""
    for row in await _rows(database, scope):
        if row.facts is not None and row.digest != sha256(row.salt + journal.read_facts(row.facts)).digest():
            return False
        chain = sha256(chain + sha256(row.line.encode()).digest() + row.digest).digest()
        if chain != row.chain:
            return False
    async with database.reading() as connection:
        return (await connection.execute(select(scopes.c.chain).where(scopes.c.id == scope.id))).scalar() == chain


async def _tamper(database: Database, number: int, **values: object) -> None:
    async with database.transaction() as connection:
        await connection.execute(update(decision).where(decision.c.id == number).values(**values))


# -- the chain ----------------------------------------------------------------------------------------------------


async def test_the_chain_goes_on_from_batch_to_batch_and_over_scopes_apart(database: Database, scope: Scope) -> None:
    for thread in range(3):
        await _append(database, entry(thread), entry(thread + 10))
        await _append(database, entry(thread), owner="bert")

    assert len(await _rows(database, scope)) == 6
    assert await _is_whole(database, scope)


async def test_a_changed_line_breaks_the_chain(database: Database, scope: Scope) -> None:
    numbers = await _append(database, entry(1), entry(2), entry(3))
    await _tamper(database, numbers[1], line=json.dumps({"reason": "linked_single_open_item"}))

    assert not await _is_whole(database, scope)


async def test_changed_facts_break_the_chain(database: Database, scope: Scope) -> None:
    numbers = await _append(database, entry(1), entry(2))
    await _tamper(database, numbers[0], facts=zlib.compress(b"{}"))

    assert not await _is_whole(database, scope)


async def test_facts_that_were_written_without_the_preset_dictionary_can_be_read(
    database: Database, scope: Scope
) -> None:
    numbers = await _append(database, entry(1))
    await _tamper(database, numbers[0], facts=zlib.compress(orjson.dumps({"letters": [1]})))

    assert await _is_whole(database, scope)


@given(st.binary(max_size=3_000))
def test_facts_come_back_as_they_were_written(said: bytes) -> None:
    facts = {"letters": [said.hex(), {"policy": "recommended"}]}
    (written,) = journal.write_down([replace(entry(1), facts=facts)])

    assert orjson.loads(journal.read_facts(written.facts)) == facts
    assert sha256(written.salt + journal.read_facts(written.facts)).digest() == written.digest
    with pytest.raises(zlib.error):
        journal.read_facts(written.facts[:-1])


def test_no_two_salts_are_alike() -> None:
    written = journal.write_down([entry(1), entry(1), entry(1)])

    assert len({each.salt for each in written}) == len({each.digest for each in written}) == 3


def test_the_preset_dictionary_stays_as_it_is() -> None:
    """Rows on disk name it by its checksum (RFC 1950, 2.2), and cannot be read without it."""
    (written,) = journal.write_down([entry(1)])

    assert written.facts[2:6].hex() == "3eaccee9"


async def test_erased_facts_leave_the_chain_whole(database: Database, scope: Scope) -> None:
    """The chain runs over a salted digest of the facts."""
    numbers = await _append(database, entry(1), entry(2))
    await _tamper(database, numbers[0], facts=None)

    assert await _is_whole(database, scope)


async def test_a_dropped_row_breaks_the_chain(database: Database, scope: Scope) -> None:
    numbers = await _append(database, entry(1), entry(2), entry(3))
    async with database.transaction() as connection:
        await connection.execute(decision.delete().where(decision.c.id == numbers[1]))

    assert not await _is_whole(database, scope)


async def test_equal_facts_have_unequal_digests(database: Database, scope: Scope) -> None:
    """Salted: who knows a person's facts cannot find where they were."""
    await _append(database, entry(1), entry(1))
    one, other = await _rows(database, scope)

    assert one.digest != other.digest


# -- appending and reading ----------------------------------------------------------------------------------------


async def test_numbers_rise_in_the_order_of_the_entries(database: Database) -> None:
    numbers = await _append(database, *(entry(n) for n in range(1_500)))
    numbers += await _append(database, entry(1_500))
    async with database.reading() as connection:
        lines = await journal.lines(connection, limit=2_000)

    assert numbers == sorted(set(numbers))
    assert [(line["decision"], line["thread"]) for line in lines] == list(zip(numbers, range(1_501), strict=True))


async def test_nothing_to_append_changes_nothing(database: Database, scope: Scope) -> None:
    async with database.transaction() as connection:
        assert await journal.append(connection, scope, [], "one") == ([], scope)


async def test_a_decision_taken_back_with_its_transaction_leaves_the_chain_whole(
    database: Database, scope: Scope
) -> None:
    await _append(database, entry(1))

    class Stop(Exception):
        pass

    async def fail() -> None:
        async with database.transaction() as connection:
            place = await mailroom.lock_scope(connection, "anna", "imap")
            await journal.append(connection, place, [entry(2)], "one")
            raise Stop

    try:
        await fail()
    except Stop:
        await _append(database, entry(3))

    assert [row.thread for row in await _rows(database, scope)] == [1, 3]
    assert await _is_whole(database, scope)


async def test_a_line_is_shown_with_its_number_in_the_form_of_the_contract(database: Database) -> None:
    (number,) = await _append(database, entry(5))
    async with database.reading() as connection:
        (line,) = await journal.lines(connection)

    assert line == {
        "v": 1,
        "event": "link",
        "timestamp": "2025-12-15T12:00:00.000Z",
        "level": "info",
        "decision": number,
        "thread": 5,
        "mailbox": "sales",
        "reason": "no_item",
        "subject": "Gr\u00fc\u00dfe \u2603",
    }


async def test_lines_are_chosen_by_number_time_and_reason(database: Database) -> None:
    entries = [entry(n, minutes=n, reason="no_item" if n % 2 else "internal_only") for n in range(6)]
    numbers = await _append(database, *entries)
    async with database.reading() as connection:

        async def threads(**choice: Any) -> list[int]:
            return [line["thread"] for line in await journal.lines(connection, **choice)]

        assert await threads(after=numbers[3]) == [4, 5]
        assert await threads(since=at(4)) == [4, 5]
        assert await threads(reason="no_item") == [1, 3, 5]
        assert await threads(among=[numbers[5], numbers[0]]) == [0, 5]
        assert await threads(among=[]) == []
        assert await threads(limit=2) == [0, 1]
        assert await journal.newest(connection) == numbers[-1]


async def test_an_empty_journal_has_no_newest(database: Database) -> None:
    async with database.reading() as connection:
        assert await journal.newest(connection) == 0


async def test_facts_come_back_as_they_were_looked_at(database: Database) -> None:
    async with database.transaction() as connection:
        batch = await journal.open_batch(connection, "link", "anna", at(0))
    (number,) = await _append(database, entry(5, batch=batch))
    await _append(database, entry(6))
    async with database.reading() as connection:
        (recorded,) = await journal.of_threads(connection, [5])

    assert (recorded.number, recorded.at, recorded.facts, recorded.batch) == (number, at(0), {"letters": [5]}, batch)
    await _tamper(database, number, facts=None)
    async with database.reading() as connection:
        assert (await journal.of_threads(connection, [5]))[0].facts is None


async def test_every_row_names_its_rules_and_its_instance(database: Database, scope: Scope) -> None:
    await _append(database, entry(1), instance="host-a")
    (row,) = await _rows(database, scope)

    assert (row.rule_version, row.instance, row.mailbox, row.logged_at) == (RULE_VERSION, "host-a", "sales", None)


# -- at least once in the log -------------------------------------------------------------------------------------


async def test_what_is_not_logged_yet_is_found_by_its_instance_and_by_its_mailbox(database: Database) -> None:
    by_bcc = replace(entry(3), line={**entry(3).line, "mailbox": None})
    await _append(database, entry(1), instance="one")
    await _append(database, entry(2), by_bcc, instance="other")
    async with database.reading() as connection:

        async def threads(*instances: str, mailboxes: Sequence[str] = (), smart_bcc: bool = False) -> list[int]:
            lines = await journal.unlogged(connection, instances, mailboxes, smart_bcc=smart_bcc)
            return [line["thread"] for line in lines]

        assert await threads("one") == [1]
        assert await threads("one", "other") == [1, 2, 3]
        assert await threads("third") == []
        assert await threads("third", mailboxes=["sales"]) == [1, 2]
        assert await threads("third", smart_bcc=True) == [3]


async def test_what_is_logged_is_not_logged_again(database: Database) -> None:
    numbers = await _append(database, entry(1), entry(2), entry(3))
    async with database.transaction() as connection:
        await journal.logged(connection, numbers[:2], at(1))
        lines = await journal.unlogged(connection, ["one"], ())

    assert [line["decision"] for line in lines] == numbers[2:]


# -- reading it back ------------------------------------------------------------------------------------------------


async def test_decisions_are_read_by_their_numbers(database: Database, scope: Scope) -> None:
    one, two = await _append(database, entry(1), entry(2))

    async with database.reading() as connection:
        found = await journal.recorded(connection, [two, 99])

    assert list(found) == [two]
    assert (found[two].line["thread"], found[two].facts, one) == (2, {"letters": [2]}, two - 1)


async def test_rows_are_read_page_by_page_as_they_stand(database: Database, scope: Scope) -> None:
    numbers = await _append(database, entry(1, batch=None), entry(2, minutes=3), entry(3))
    await _tamper(database, numbers[2], facts=None)

    async with database.reading() as connection:
        page = await journal.rows(connection, 0, 2)
        rest = await journal.rows(connection, page[-1].number, 2)
        count = await journal.count(connection)
        (place,) = await journal.scopes(connection)

    assert [row.number for row in (*page, *rest)] == numbers
    assert count == 3
    assert (page[1].scope, page[1].thread, page[1].at, page[1].reason) == (scope.id, 2, at(3), "no_item")
    assert json.loads(page[1].written() or b"") == {"letters": [2]}
    assert (rest[0].facts, rest[0].written()) == (None, None)
    assert (place.owner, place.chain) == ("anna", rest[0].chain)


async def test_the_line_before_is_that_of_the_same_thread(database: Database, scope: Scope) -> None:
    first, _, third, fourth = await _append(
        database, entry(1, reason="no_item"), entry(2), entry(1, reason="only_closed_items"), entry(1)
    )

    async with database.reading() as connection:
        found = await journal.lines_before(connection, [first, third, fourth])

    assert {number: line["reason"] for number, line in found.items()} == {
        third: "no_item", fourth: "only_closed_items",
    }  # fmt: skip
