"""Several writers at once: one thread stays one thread, on both databases, and nobody blocks anybody for ever."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from random import Random

import pytest

from ingest.scene import BEN, CLIENT, Scene, batch, fetched, hours, letter, office_with
from maillinkd.directory.item import ItemRef
from maillinkd.ingest import changes
from maillinkd.store.database import Database, open_database
from maillinkd.store.upgrade import upgrade
from system.whole import assert_whole

ROUNDS = 60
BOUND = 240.0
"""Seconds after which a race is a deadlock."""

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with today's schema; on its engine by `indirect`."""
    found = f"sqlite+aiosqlite:///{tmp_path}/mail.db"
    if request.param == "postgresql":
        found = request.getfixturevalue("postgres_url").replace("postgresql://", "postgresql+asyncpg://")
    database = open_database(found)
    await upgrade(database)
    await database.close()
    return found


@asynccontextmanager
async def writers(url: str, number: int) -> AsyncIterator[list[Scene]]:
    """So many houses, each with a way of its own to the database, as processes have them."""
    async with AsyncExitStack() as stack:
        databases: list[Database] = []
        for _ in range(number):
            databases.append(open_database(url))
            stack.push_async_callback(databases[-1].close)
        yield [Scene.on(database, instance=f"writer {n}") for n, database in enumerate(databases)]
        await assert_whole(databases[0])


async def deliver(
    scene: Scene, folder: str, uid: int, raw: bytes, mailbox: str = "anna", *, full: bool = False
) -> None:
    await scene.synced.file(batch(fetched(uid, raw, full=full), mailbox=mailbox, folder=folder))


def replies(name: str) -> list[bytes]:
    """Four messages of one thread whose first nobody has: two refer to it, one joins them, one joins all later."""
    return [
        letter(f"{name}-1@c", refers=[f"{name}-a@c"]),
        letter(f"{name}-2@c", refers=[f"{name}-b@c"], date=hours(1)),
        letter(f"{name}-3@c", refers=[f"{name}-a@c", f"{name}-b@c"], date=hours(2)),
        letter(f"{name}-4@c", refers=[f"{name}-2@c"], date=hours(3)),
    ]


@pytest.mark.parametrize("url", BOTH, indirect=True)
async def test_four_replies_of_one_thread_delivered_at_once_are_one_thread(url: str) -> None:
    """architecture.md, "One writer a scope": a plain BEGIN splits it in every round. From the very first mail of the
    scope on, which all four find missing."""
    async with writers(url, 4) as scenes, asyncio.timeout(BOUND):
        await scenes[0].know(*CLIENT)
        for n in range(ROUNDS):
            four = enumerate(zip(scenes, replies(f"m{n}"), strict=True))
            await asyncio.gather(*(deliver(scene, f"F{k}", n + 1, raw) for k, (scene, raw) in four))

        threads = await scenes[0].threads()
        assert sorted(len(thread.message_ids) for thread in threads) == [4] * ROUNDS
        assert {str(thread.slot) for thread in threads} == {"deal:61"}
        assert await scenes[0].count("link") == 3 * ROUNDS


WRITER = """
import asyncio, sys
from system.test_race import take_part
asyncio.run(take_part(sys.argv[1], int(sys.argv[2])))
"""


async def take_part(url: str, number: int) -> None:
    """What one of several processes does: every other reply of each round."""
    async with writers(url, 1) as (scene,):
        for n in range(20):
            for k, raw in enumerate(replies(f"m{n}")):
                if k % 2 == number:
                    await deliver(scene, f"F{number}", 4 * n + k + 1, raw)


@pytest.mark.parametrize("url", BOTH, indirect=True)
async def test_two_processes_that_file_into_the_same_threads_do_not_split_them(url: str) -> None:
    root = Path(__file__).resolve().parent.parent
    environment = {"PYTHONPATH": f"{root}:{root.parent / 'daemon'}", "PATH": ""}
    processes = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", WRITER, url, str(number), env=environment)
        for number in (0, 1)
    ]
    codes = await asyncio.wait_for(asyncio.gather(*(process.wait() for process in processes)), BOUND)

    assert codes == [0, 0]
    async with writers(url, 1) as (scene,):
        assert [len(thread.message_ids) for thread in await scene.threads()] == [4] * 20


@pytest.mark.postgres
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
async def test_eight_writers_on_the_same_threads(url: str) -> None:
    """Random references over few ids, so that threads merge under the writers' hands all the time; some of the mail
    is delivered to two writers, as one mail in two folders is."""
    random = Random(8)
    mails = [
        letter(
            f"{n}@c", refers=[f"{k}@c" for k in random.sample(range(120), random.randint(0, 2))], date=hours(n / 60)
        )
        for n in range(120)
    ]
    async with writers(url, 1) as (alone,):
        await alone.bring(mails, mailbox="ben")
        expected = sorted(thread.message_ids for thread in await alone.threads())
    shares = [[*mails[n::8], *random.sample(mails, 3)] for n in range(8)]
    async with writers(url, 8) as scenes, asyncio.timeout(BOUND):

        async def write(number: int) -> None:
            share = shares[number]
            random.shuffle(share)
            for uid, raw in enumerate(share, start=1):
                await deliver(scenes[number], f"F{number}", uid, raw)

        await asyncio.gather(*map(write, range(8)))
        threads = await scenes[0].threads()

    assert sorted(thread.message_ids for thread in threads if thread.owner == "anna") == expected
    assert sum(thread.message_count for thread in threads) == 2 * len(mails)


@pytest.mark.parametrize("url", BOTH, indirect=True)
async def test_the_same_mails_in_two_owners_mailboxes_at_once_in_opposite_orders(url: str) -> None:
    """Scopes share nothing but the bytes, and these must not make one wait for the other in a ring."""
    async with writers(url, 2) as (one, other), asyncio.timeout(BOUND):
        for n in range(20):
            mails = [letter(f"m{n}-{k}@c", to=BEN, text=f"{n} {k}") for k in range(8)]
            messages = [fetched(8 * n + k + 1, raw, full=True) for k, raw in enumerate(mails)]
            await asyncio.gather(
                one.synced.file(batch(*messages, mailbox="anna")),
                other.synced.file(batch(*reversed(messages), mailbox="ben")),
            )

        assert await one.count("raw_message") == 160
        assert await one.count("message") == 320


@pytest.mark.parametrize("url", BOTH, indirect=True)
async def test_the_directory_and_a_hand_change_what_mail_is_being_filed_for(url: str) -> None:
    """Mail, item lines and hand links at once: nothing fails, and in the end all threads follow the directory."""
    async with writers(url, 3) as (mail, items, hand), asyncio.timeout(BOUND):
        await items.know(*CLIENT)
        await deliver(mail, "INBOX", 1, letter("m0@c"))
        thread = (await hand.thread()).id

        async def write() -> None:
            for n in range(1, 20):
                await deliver(mail, "INBOX", n + 1, letter(f"m{n}@c", date=hours(n)))

        async def change() -> None:
            for n in range(20):
                await items.know({"kind": "person", "id": "3", "deleted": n % 2 == 0})

        async def link() -> None:
            for _ in range(10):
                await changes.unlink(hand.house, "anna", [thread], ItemRef.parse("deal:61"))
                await changes.link(hand.house, "anna", [thread], ItemRef.parse("deal:61"))

        await asyncio.gather(write(), change(), link())
        threads = await mail.threads()

    assert len(threads) == 20
    assert {tuple(map(str, thread.persons)) for thread in threads} == {("person:3",)}


def test_the_office_of_these_tests_has_two_owners() -> None:
    office = office_with()

    assert office.owner_of_mailbox("anna") != office.owner_of_mailbox("ben")
