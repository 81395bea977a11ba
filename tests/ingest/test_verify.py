"""`verify` makes every decision again, and notices whatever somebody has changed in the journal (L20, L24)."""

import json
from dataclasses import replace
from hashlib import sha256

import pytest
from sqlalchemy import select, text

from ingest.scene import (
    CLIENT,
    DEAL,
    DORA,
    LEAD,
    ORGANIZATION,
    OTHER_DEAL,
    PERSON,
    STRANGER,
    Scene,
    batch,
    bcc,
    fetched,
    hours,
    letter,
    office_with,
    received,
)  # fmt: skip
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.ingest import verify as verification
from maillinkd.ingest.verify import size, verify
from maillinkd.linker import versions
from maillinkd.store import journal
from maillinkd.store.database import Database
from maillinkd.store.invariants import Problem, Summary
from maillinkd.store.rehearsal import Rehearsal, rehearsal
from maillinkd.store.schema import decision


async def found(database: Database, summary: Summary | None = None) -> list[Problem]:
    async with database.reading() as connection:
        return [each async for each in verify(connection, summary or Summary(), lambda _: None)]


async def journal_problems(database: Database) -> list[str]:
    """Those of the journal; a changed journal contradicts tables too."""
    checks = ("chain", "line", "facts", "decision")
    return [f"{each.check}: {each.place}: {each.problem}" for each in await found(database) if each.check in checks]


async def play(scene: Scene) -> None:
    """Every kind of decision: mail, first sync, strangers, hands, merges, Smart Bcc, the directory, decide, undo."""
    house = scene.house
    await scene.know(ORGANIZATION, PERSON)
    await scene.arrive(letter("a@x"))
    await scene.know(DEAL)
    await changes.decide(house, since=None, item=None, dry_run=False, progress=lambda _: None)
    await scene.arrive(letter("b@x", refers=["a@x"], sender=STRANGER, date=hours(1)), first_uid=2)
    await scene.synced.file(batch(fetched(3, letter("old@x", date=hours(-1))), first_sync=True))
    await changes.link(house, "anna", [1], ItemRef.parse("deal:61"))
    await changes.unlink(house, "anna", [1], ItemRef.parse("person:3"))
    await scene.arrive(letter("c@x", date=hours(2)), letter("d@x", date=hours(3)), first_uid=4)
    await scene.arrive(letter("e@x", refers=["c@x", "d@x"], date=hours(4)), first_uid=6)
    by_bcc = letter("f@x", sender="anna@ourco.example", to=DORA, date=hours(5))
    await scene.deliver(received(by_bcc, bcc("deal61"), bcc("deal99")))
    await scene.deliver(received(letter("f@x", sender="anna@ourco.example", to=DORA, date=hours(5)), bcc("deal62")))
    await scene.know({"kind": "person", "id": "4", "addresses": [DORA]}, PERSON | {"addresses": []}, LEAD, OTHER_DEAL)
    await scene.know(PERSON, {"kind": "deal", "id": "61", "status": "won"})
    await scene.bring([letter(f"g{n}@x", sender=DORA, date=hours(6 + n)) for n in range(3)])
    await scene.know({"kind": "deal", "id": "63", "person": "4", "converted_from": "abc-1"})


async def test_every_kind_of_decision_is_made_again(either: Scene) -> None:
    await play(either)
    summary = Summary()

    assert await found(either.database, summary) == []
    assert summary.decisions == summary.made_again > 12
    async with either.database.reading() as connection:
        assert await size(connection) == summary.decisions + summary.threads + summary.messages


async def test_what_was_undone_is_what_stood_before(scene: Scene) -> None:
    await scene.know(*CLIENT, OTHER_DEAL)
    await scene.arrive(letter("a@x"))
    (line,) = await changes.link(scene.house, "anna", [1], ItemRef.parse("deal:62"))

    await changes.undo_batch(scene.house, "anna", line["batch"], lambda _: None)

    assert await found(scene.database) == []
    newest = await last_decision(scene.database)
    assert newest["undoes"] == line["decision"]
    assert newest["slot"] is None


async def last_decision(database: Database) -> dict[str, object]:
    async with database.reading() as connection:
        return (await journal.lines(connection))[-1]


async def test_a_followed_lead_is_a_decision_of_the_directory(scene: Scene) -> None:
    """L10"""
    await scene.know(ORGANIZATION, PERSON, LEAD)
    await scene.arrive(letter("a@x"))
    await scene.know(OTHER_DEAL | {"converted_from": "abc-1"})
    await scene.know(PERSON | {"addresses": []})

    assert await found(scene.database) == []


async def tampered(database: Database, *statements: str) -> list[str]:
    """What verify finds after these, which are taken back."""
    async with rehearsal(database) as tried:
        await change(tried, statements)
        return await journal_problems(tried)


async def change(tried: Rehearsal, statements: tuple[str, ...]) -> None:
    async with tried.transaction() as connection:
        for statement in statements:
            await connection.execute(text(statement))


NOT_FOLLOWING = "it does not follow from the one before it"
CUT = "chain: scope anna/imap: the newest decision is not the one that the scope remembers"

TAMPERED = {
    "a changed line": (
        """UPDATE decision SET line = replace(line, 'deal:61', 'deal:66') WHERE id = 2""",
        [f"chain: decision 2 (anna/imap, thread 2): {NOT_FOLLOWING}", "decision: decision 2 (anna/imap, thread 2): "
         "its slot is deal:66; its facts lead to deal:61"],
    ),
    "a deleted row in the middle": (
        "DELETE FROM decision WHERE id = 2",
        [f"chain: decision 3 (anna/imap, thread 3): {NOT_FOLLOWING}"],
    ),
    "a deleted row at the start": (
        "DELETE FROM decision WHERE id = 1",
        [f"chain: decision 2 (anna/imap, thread 2): {NOT_FOLLOWING}"],
    ),
    "a truncated tail": ("DELETE FROM decision WHERE id = 3", [CUT]),
    "no journal at all": ("DELETE FROM decision", [CUT]),
    "a row that was put in": (
        "INSERT INTO decision SELECT 9, scope, thread, at, line, reason, mailbox, batch, rule_version, facts, salt, "
        "digest, chain, instance, logged_at FROM decision WHERE id = 3",
        [f"chain: decision 9 (anna/imap, thread 3): {NOT_FOLLOWING}"],
    ),
    "a changed column": (
        "UPDATE decision SET reason = 'no_item' WHERE id = 2",
        ["line: decision 2 (anna/imap, thread 2): its column reason says 'no_item', its line "
         "'linked_single_open_item'"],
    ),
    "another thread": (
        "UPDATE decision SET thread = 1 WHERE id = 2",
        ["line: decision 2 (anna/imap, thread 1): its column thread says 1, its line 2"],
    ),
    "another time": (
        "UPDATE decision SET at = at + 5000000 WHERE id = 2",
        ["line: decision 2 (anna/imap, thread 2): its column at says"],
    ),
    "rules that nobody knows": (
        '''UPDATE decision SET rule_version = 99, line = replace(line, '"rule_version"\\:1', '"rule_version"\\:99')
        WHERE id = 2''',
        ["decision: decision 2 (anna/imap, thread 2): it was made by rule version 99, which this program does not"],
    ),
    "a line that is none": (
        "UPDATE decision SET line = '[' WHERE id = 2",
        ["line: decision 2 (anna/imap, thread 2): its line is no JSON object"],
    ),
    "a line without its fields": (
        '''UPDATE decision SET line = '{"a"\\:1}' WHERE id = 2''',
        ["decision: decision 2 (anna/imap, thread 2): its line or its facts are not whole: KeyError: 'trigger'"],
    ),
    "facts that are no facts": (
        "UPDATE decision SET facts = x'00' WHERE id = 2",
        ["facts: decision 2 (anna/imap, thread 2): its facts cannot be read"],
    ),
    "facts of another decision": (
        "UPDATE decision SET facts = (SELECT facts FROM decision WHERE id = 1) WHERE id = 2",
        ["facts: decision 2 (anna/imap, thread 2): its facts are not those that it was made from: they were changed"],
    ),
    "another scope": (
        "UPDATE scope SET owner = 'ben'",
        ["line: decision 1 (ben/imap, thread 1): its line is about anna/imap"],
    ),
    "a scope with another end": ("UPDATE scope SET chain = x'00'", [CUT]),
}  # fmt: skip


@pytest.fixture
async def three(scene: Scene) -> Scene:
    """Three linked threads."""
    await scene.know(*CLIENT)
    await scene.arrive(*(letter(f"{n}@x", date=hours(n)) for n in range(3)))
    return scene


async def test_whatever_is_changed_in_the_journal_shows(three: Scene) -> None:
    unseen = {}
    for name, (statement, expected) in TAMPERED.items():
        told = await tampered(three.database, statement)
        if not all(any(each in one for one in told) for each in expected):
            unseen[name] = told

    assert unseen == {}


async def test_only_the_first_row_that_does_not_follow_is_told(three: Scene) -> None:
    """What comes after it hangs on what it says of itself."""
    told = await tampered(three.database, "DELETE FROM decision WHERE id = 1")

    assert len(told) == 1


async def test_erased_facts_leave_the_chain_whole(three: Scene) -> None:
    summary = Summary()
    async with rehearsal(three.database) as tried:
        await change(tried, ("UPDATE decision SET facts = NULL WHERE id = 2",))

        assert await found(tried, summary) == []

    assert (summary.decisions, summary.made_again, summary.erased) == (3, 2, 1)


async def forge(tried: Rehearsal, number: int, **fields: object) -> None:
    """A journal that is rewritten as a whole, chain and all, from this decision on."""
    async with tried.transaction() as connection:
        rows = (await connection.execute(select(decision).order_by(decision.c.id))).all()
        chain = b""
        for row in rows:
            line = json.loads(row.line) | (fields if row.id == number else {})
            written = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
            digest = sha256(row.salt + journal.read_facts(row.facts)).digest()
            chain = journal.link_of_chain(chain, written, digest)
            values = {"line": written, "chain": chain, "digest": digest, "reason": line["reason"]}
            await connection.execute(decision.update().where(decision.c.id == row.id).values(values))
        await connection.execute(text("UPDATE scope SET chain = :chain"), {"chain": chain})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"slot": "deal:66"}, "its slot is deal:66; its facts lead to deal:61"),
        ({"reason": "no_item"}, "its reason is no_item; its facts lead to linked_single_open_item"),
        ({"outcome": "unchanged"}, "its outcome is unchanged; its facts lead to linked"),
        ({"persons": []}, "its persons is empty; its facts lead to person:3"),
        ({"organizations": []}, "its organizations is empty; its facts lead to organization:7"),
        ({"candidates": ["deal:61", "deal:62"]}, "its candidates is deal:61 deal:62; its facts lead to deal:61"),
        ({"flags": ["start_unknown"]}, "its flags is start_unknown; its facts lead to empty"),
        ({"lost": ["deal:62"]}, "its flags is empty; its facts lead to slot_lost_in_merge"),
        ({"undoes": 99}, "it undoes decision 99, which is not in the journal"),
    ],
)
async def test_a_forged_decision_does_not_follow_from_its_facts(
    three: Scene, fields: dict[str, object], expected: str
) -> None:
    """Even where the chain was forged with it."""
    async with rehearsal(three.database) as tried:
        await forge(tried, 2, **fields)
        told = await journal_problems(tried)

    assert [each for each in told if expected in each] == told != []


async def test_the_directory_repeats_what_stood_before(three: Scene) -> None:
    await three.know(PERSON | {"addresses": []})
    async with rehearsal(three.database) as tried:
        await forge(tried, 4, reason="no_item")
        told = await journal_problems(tried)

    (problem,) = told
    assert "its reason is no_item; its facts lead to linked_single_open_item" in problem


@pytest.mark.parametrize("damage", ["line = '['", "line = '{}'", "facts = x'00'", """line = '{"undoes"\\:4}'"""])
async def test_what_is_damaged_stops_nobody_who_repeats_it(three: Scene, damage: str) -> None:
    """A decision of the directory repeats the one before it, an undo the one that it takes back."""
    await three.know(PERSON | {"addresses": []})
    (line,) = await changes.link(three.house, "anna", [1], ItemRef.parse("deal:61"))
    await changes.undo_batch(three.house, "anna", line["batch"], lambda _: None)
    number = line["decision"]
    for each in (1, 4, number):
        assert await tampered(three.database, f"UPDATE decision SET {damage} WHERE id = {each}")


async def test_an_older_version_is_checked_by_its_own_rules(three: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if today's rules were version 2, and version 1 had linked nothing."""

    def version_1(*given: object) -> object:
        made = versions.RULES[2](*given)  # type: ignore[arg-type]
        return replace(made, candidates=())

    monkeypatch.setattr(versions, "RULES", {1: version_1, 2: versions.RULES[1]})

    told = await journal_problems(three.database)

    assert len(told) == 3
    assert all("its candidates is deal:61; its facts lead to empty" in each for each in told)


async def test_pages_do_not_change_what_is_found(three: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verification, "PAGE", 1)

    assert await found(three.database) == []
    assert len(await tampered(three.database, "DELETE FROM decision WHERE id = 2")) == 1


async def test_a_changed_policy_does_not_change_what_was_decided(three: Scene) -> None:
    """The facts hold the policy of then."""
    three.house.office = office_with(policy={"preset": "pipedrive-strict", "count_only_older_items": True})

    assert await found(three.database) == []
