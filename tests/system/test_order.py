"""The order in which mail comes must not matter; and what the whole house does, a naive one does too."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingest.scene import (
    ANNA,
    BEN,
    CARLA,
    CONFIGURATION,
    DORA,
    NOON,
    STRANGER,
    UNIVERSAL,
    Scene,
    batch,
    fetched,
    letter,
)
from linker.world import Refused as WorldRefused
from linker.world import World
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes, imports
from maillinkd.ingest.hand import Refused
from maillinkd.store import links
from maillinkd.store.database import open_database
from maillinkd.store.upgrade import upgrade
from maillinkd.store.views import ThreadView
from system.whole import assert_whole

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(scope="module")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with today's schema and nothing in it, to be copied: migrations take longer than an example."""
    path = tmp_path_factory.mktemp("empty") / "mail.db"

    async def make() -> None:
        database = open_database(f"sqlite+aiosqlite:///{path}")
        await upgrade(database)
        await database.close()

    asyncio.run(make())
    return path


@asynccontextmanager
async def scene_on(empty_file: Path) -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(empty_file, f"{folder}/mail.db")
        database = open_database(f"sqlite+aiosqlite:///{folder}/mail.db")
        try:
            yield Scene.on(database)
            await assert_whole(database)
        finally:
            await database.close()


# -- threads ----------------------------------------------------------------------------------------------------

NAMES = "abcdefgh"


@dataclass(frozen=True)
class Sent:
    """A mail as it is drawn."""

    name: str
    refers: tuple[str, ...]
    minutes: int
    sender: str = CARLA

    @property
    def raw(self) -> bytes:
        date = NOON + timedelta(minutes=self.minutes)
        return letter(f"{self.name}@c", sender=self.sender, refers=[f"{each}@c" for each in self.refers], date=date)


def mails(*senders: str) -> st.SearchStrategy[list[Sent]]:
    """Mails with random references over few ids; ids are not given twice."""
    sent = st.builds(
        Sent,
        st.sampled_from(NAMES),
        st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple),
        st.integers(0, 20),
        st.sampled_from(senders or [CARLA]),
    )
    return st.lists(sent, min_size=1, max_size=7, unique_by=lambda each: each.name)


def components(sent: Sequence[Sent]) -> set[frozenset[str]]:
    """The naive oracle of threading.md: unite sets that share an id until none do."""
    found: list[set[str]] = []
    for each in sent:
        one = {each.name, *each.refers}
        touching = [other for other in found if other & one]
        found = [other for other in found if not other & one] + [one.union(*touching)]
    names = {each.name for each in sent}
    return {frozenset(f"<{name}@c>" for name in part & names) for part in found}


def cut(values: Sequence[Sent], at: Sequence[int]) -> list[list[Sent]]:
    ends = [*sorted(at), len(values)]
    return [list(values[start:end]) for start, end in zip([0, *ends], ends, strict=False) if start < end]


@given(data=st.data(), sent=mails())
@few
def test_threads_are_the_components_whatever_the_order_the_batches_the_repeats_and_the_door(
    empty_file: Path, data: st.DataObject, sent: list[Sent]
) -> None:
    """threading.md, Invariant; and a number that was ever shown leads to the thread that holds what it held."""
    repeats = data.draw(st.lists(st.sampled_from(sent), max_size=3))
    order = data.draw(st.permutations([*sent, *repeats]))
    batches = cut(order, data.draw(st.lists(st.integers(0, len(order)), max_size=4)))
    doors = data.draw(st.lists(st.sampled_from(["sync", "first sync", "import"]), min_size=len(batches)))

    async def play() -> None:
        async with scene_on(empty_file) as scene:
            seen: list[tuple[int, tuple[str, ...]]] = []
            uid = 0
            for some, door in zip(batches, doors, strict=False):
                raws = [each.raw for each in some]
                if door == "import":
                    await scene.bring(raws)
                else:
                    messages = [fetched(uid + n, raw) for n, raw in enumerate(raws, start=1)]
                    uid += len(raws)
                    await scene.synced.file(batch(*messages, first_sync=door == "first sync"))
                seen += [(thread.id, thread.message_ids) for thread in await scene.threads()]
            threads = await scene.threads()

            assert {frozenset(thread.message_ids) for thread in threads} == components(sent)
            assert sum(thread.message_count for thread in threads) == len(sent)
            by_label = {thread.label: thread for thread in threads}
            async with scene.database.reading() as connection:
                for number, held in seen:
                    label = await links.label_of(connection, number)
                    assert label is not None
                    assert set(held) <= set(by_label[label].message_ids)

    asyncio.run(play())


async def test_a_merge_keeps_the_older_thread_s_number_and_the_other_leads_to_it(empty_file: Path) -> None:
    """threading.md, "In SQL": whichever has more ids."""
    async with scene_on(empty_file) as scene:
        await scene.arrive(Sent("a", (), 0).raw)
        older = (await scene.thread()).id
        await scene.arrive(*(Sent(name, ("b",), n).raw for n, name in enumerate("bcde", start=5)), first_uid=2)
        younger = (await scene.thread_of("b@c")).id
        await scene.arrive(Sent("f", ("a", "b"), 9).raw, first_uid=9)

        merged = await scene.thread()
        assert (merged.id, len(merged.message_ids)) == (older, 6)
        async with scene.database.reading() as connection:
            assert await links.label_of(connection, older) == merged.label
            assert await links.label_of(connection, younger) == merged.label


# -- decisions ----------------------------------------------------------------------------------------------------

ITEMS: list[dict[str, Any]] = [
    {"kind": "organization", "id": "7"},
    {"kind": "person", "id": "3", "addresses": [CARLA], "organization": "7"},
    {"kind": "person", "id": "4", "addresses": [DORA]},
    {"kind": "deal", "id": "61", "person": "3", "added_at": (NOON + timedelta(minutes=5)).isoformat()},
    {"kind": "lead", "id": "l1", "person": "4", "added_at": (NOON - timedelta(minutes=5)).isoformat()},
]
"""Carla's deal is added while the mails go to and fro, Dora's lead is older."""


@given(data=st.data(), sent=mails(CARLA, DORA, ANNA, STRANGER))
@few
def test_a_first_sync_decides_the_same_whatever_the_order_of_its_chunks(
    empty_file: Path, data: st.DataObject, sent: list[Sent]
) -> None:
    """linking.md L26."""
    order = data.draw(st.permutations(sent))
    chunks = cut(order, data.draw(st.lists(st.integers(0, len(order)), max_size=4)))

    async def outcome(batches: list[list[Sent]]) -> list[tuple[Any, ...]]:
        async with scene_on(empty_file) as scene:
            await scene.know(*ITEMS)
            for n, some in enumerate(batches):
                messages = [fetched(10 * n + k, each.raw) for k, each in enumerate(some, start=1)]
                await scene.synced.file(batch(*messages, first_sync=True))
            return sorted(map(standing, await scene.threads()))

    assert asyncio.run(outcome(chunks)) == asyncio.run(outcome([sent]))


def standing(view: ThreadView) -> tuple[Any, ...]:
    people = tuple(map(str, (*view.persons, *view.organizations)))
    return view.message_ids, str(view.slot), str(view.reason), people, tuple(map(str, view.candidates)), view.flags


# -- the naive house --------------------------------------------------------------------------------------------

Json = dict[str, Any]

CASE: Json = {
    "users": [{"name": name, **user} for name, user in CONFIGURATION["users"].items()],
    "teams": CONFIGURATION["teams"],
    "mailboxes": CONFIGURATION["mailboxes"],
}
WORLD_ITEMS: list[Json] = [
    *ITEMS,
    {"kind": "deal", "id": "62", "person": "3", "added_at": "2026-01-01T00:00:00Z", "status": "won"},
]
CHANGES: list[Json] = [
    {"kind": "deal", "id": "61", "status": "won"},
    {"kind": "deal", "id": "61", "status": "open"},
    {"kind": "deal", "id": "62", "status": "open"},
    {"kind": "deal", "id": "62", "status": "lost"},
    {"kind": "deal", "id": "62", "deleted": True},
    {"kind": "deal", "id": "62", "deleted": False},
    {"kind": "deal", "id": "70", "person": "4", "converted_from": "l1"},
    {"kind": "deal", "id": "70", "deleted": True},
    {"kind": "deal", "id": "70", "deleted": False},
    {"kind": "lead", "id": "l1", "archived": True},
    {"kind": "lead", "id": "l1", "archived": False},
    {"kind": "person", "id": "3", "deleted": True},
    {"kind": "person", "id": "3", "deleted": False},
    {"kind": "person", "id": "4", "addresses": [DORA, CARLA]},
    {"kind": "person", "id": "4", "addresses": [DORA]},
    {"kind": "person", "id": "5", "addresses": [STRANGER], "organization": "8"},
    {"kind": "organization", "id": "8"},
    {"kind": "organization", "id": "7", "deleted": True},
    {"kind": "organization", "id": "7", "deleted": False},
]
PEOPLE = [ANNA, BEN, CARLA, DORA, STRANGER, "s2@elsewhere.example"]
TAGS = ["", "+deal61", "+deal62", "+LeadL1", "+deal404"]
CHOSEN = ["deal:61", "deal:61", "deal:62", "lead:l1", "deal:70", "deal:404", "person:3", "person:4", "organization:7"]


def events(random: Random) -> list[Json]:
    """What happens to a house: few ids, people and items, so that it all has to do with each other."""
    ids = [f"{name}@c" for name in NAMES[: random.randint(3, 8)]]
    return [_event(random, ids) for _ in range(random.randint(5, 30))]


def _event(random: Random, ids: Sequence[str]) -> Json:
    match random.choices(["mail", "bcc", "mails", "items", "link", "unlink", "decide"], [35, 25, 8, 12, 9, 8, 3])[0]:
        case "mail":
            return {"mail": _synced(random, ids, random.choice(["anna", "anna", "anna2", "ben"]))}
        case "bcc":
            return {"mail": _by_bcc(random, ids)}
        case "mails":
            mailbox = random.choice(["anna", "ben"])
            return {"mails": [_synced(random, ids, mailbox) for _ in range(random.randint(2, 5))]}
        case "items":
            return {"items": [random.choice(CHANGES)]}
        case "decide":
            return {"decide": {}}
        case hand:
            who = random.choice(["boss", "boss", "anna", "ben"])
            return {hand: {"thread": random.randint(0, 9), "item": random.choice(CHOSEN), "as": who}}


def _mail(random: Random, ids: Sequence[str]) -> Json:
    return {
        "id": random.choice(ids),
        "to": random.sample(PEOPLE, random.randint(0, 3)),
        "cc": random.sample(PEOPLE, random.choice([0, 0, 0, 1, 2])),
        "date": (NOON + timedelta(minutes=random.randint(0, 20))).isoformat(),
        "references": random.sample(ids, random.choice([0, 0, 1, 1, 2, 3])),
    }


def _synced(random: Random, ids: Sequence[str], mailbox: str) -> Json:
    return {**_mail(random, ids), "mailbox": mailbox, "from": random.choice([ANNA, CARLA, CARLA, DORA, STRANGER])}


def _by_bcc(random: Random, ids: Sequence[str]) -> Json:
    tags = random.sample(TAGS, random.choice([1, 1, 1, 2]))
    mail = _mail(random, ids) | {
        "smart_bcc": [f"ourco{tag}@bcc.ourco.example" for tag in tags],
        "from": random.choice([ANNA, ANNA, ANNA, ANNA, BEN, CARLA]),
    }
    return mail | ({"to": [UNIVERSAL], "cc": []} if random.random() < 0.4 else {})


def eml(mail: Json) -> bytes:
    message = EmailMessage()
    message["From"] = mail["from"]
    for name in ("to", "cc"):
        if mail[name]:
            message[name] = ", ".join(mail[name])
    message["Subject"] = "New roof"
    message["Date"] = format_datetime(datetime.fromisoformat(mail["date"]))
    message["Message-ID"] = f"<{mail['id']}>"
    if mail["references"]:
        message["References"] = " ".join(f"<{each}>" for each in mail["references"])
    message.set_content("Hello")
    return message.as_bytes()


async def thread_of(scene: Scene, hand: Json) -> ThreadView:
    (found,) = [
        view
        for view in await scene.threads()
        if (view.owner, view.channel) == (hand["owner"], hand["channel"])
        and f"<{hand['thread_of']}>" in view.message_ids
    ]
    return found


async def with_a_thread(scene: Scene, step: Json) -> Json | None:
    """The step, naming a thread of those that there are; None if there is none, or its message lies in several."""
    ((what, hand),) = step.items()
    if what not in ("link", "unlink"):
        return step
    threads = sorted(await scene.threads(), key=shown)
    if not threads:
        return None
    view = threads[hand["thread"] % len(threads)]
    named = hand | {"thread_of": view.message_ids[0].strip("<>"), "owner": view.owner, "channel": view.channel}
    try:
        await thread_of(scene, named)
    except ValueError:  # a copy (L16 c)
        return None
    return {what: named}


async def take(scene: Scene, step: Json) -> bool:
    """Does to the house what the step says. False if a hand was refused."""
    ((what, given_),) = step.items()
    match what:
        case "mail" if "smart_bcc" in given_:
            mails = [(eml(given_), None)]
            await imports.import_smart_bcc(scene.house, given_["smart_bcc"], ANNA, mails, lambda _: None)
        case "mail":
            await scene.bring([eml(given_)], given_["mailbox"])
        case "mails":
            await scene.bring(map(eml, given_), given_[0]["mailbox"])
        case "items":
            await scene.know(*given_)
        case "decide":
            await changes.decide(scene.house, since=None, item=None, dry_run=False, progress=lambda _: None)
        case "link" | "unlink":
            act: Callable[..., Awaitable[Any]] = changes.link if what == "link" else changes.unlink
            number = (await thread_of(scene, given_)).id
            try:
                await act(scene.house, given_["as"], [number], ItemRef.parse(given_["item"]))
            except Refused:
                return False
    return True


def take_naively(world: World, step: Json) -> bool:
    try:
        if "decide" in step:
            world.decide_again()
        else:
            world.step(step)
    except WorldRefused:
        return False
    return True


def compared(thread: Json) -> tuple[Any, ...]:
    """A thread as both show it.

    A detached thread refers to messages of other threads: when one of these comes, its start is no longer unknown,
    and that is noticed when the thread is looked at next, which the naive house does more often.
    """
    if "smart_bcc_duplicate" in thread["flags"]:
        thread = thread | {"flags": thread["flags"] - {"start_unknown"}}
    return tuple(sorted(value) if isinstance(value, set | list) else str(value) for value in thread.values())


def shown(view: ThreadView) -> tuple[Any, ...]:
    return compared(
        {
            "owner": view.owner,
            "channel": view.channel,
            "messages": [each.strip("<>") for each in view.message_ids],
            "slot": view.slot,
            "reason": view.reason,
            "persons": set(map(str, view.persons)),
            "organizations": set(map(str, view.organizations)),
            "candidates": set(map(str, view.candidates)),
            "flags": set(map(str, view.flags)),
        }
    )


async def agree(empty_file: Path, seed: int) -> None:
    async with scene_on(empty_file) as scene:
        world = World(CASE)
        await scene.know(*WORLD_ITEMS)
        world.learn(WORLD_ITEMS)
        for event in events(Random(seed)):
            if (step := await with_a_thread(scene, event)) is None:
                continue
            assert await take(scene, step) == take_naively(world, step), step
            assert sorted(map(shown, await scene.threads())) == sorted(map(compared, world.shown())), step


@pytest.mark.parametrize("seed", range(12))
async def test_the_house_does_what_a_naive_one_does(empty_file: Path, seed: int) -> None:
    """Mail by both channels, batches, items that change, hands, in any order: after every step they agree."""
    await agree(empty_file, seed)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(1_000, 1_400))
async def test_the_house_does_what_a_naive_one_does_for_long(empty_file: Path, seed: int) -> None:
    await agree(empty_file, seed)


async def test_the_same_mail_twice_in_a_batch_whose_copies_refer_to_other_mail(empty_file: Path) -> None:
    """T11: one message, though somebody on the way has changed References; those of both copies hold."""
    async with scene_on(empty_file) as scene:
        with capture_logs() as complaints:
            await scene.bring([Sent("d", ("a", "b"), 0).raw, Sent("d", ("e",), 0).raw])
        assert complaints == []
        await scene.bring([Sent("b", (), 1).raw, Sent("e", (), 1).raw])

        assert [view.message_ids for view in await scene.threads()] == [("<d@c>", "<b@c>", "<e@c>")]
