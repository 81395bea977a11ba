"""How many decisions a second the rules come to from memory, and what decisions add to filing mail.

    python bench/linker.py [--seconds 2] [--messages 5000] [--repeat 3]

The first part is pure: snapshots as mail makes them (most threads short, a few long, three quarters known people)
are made beforehand, and `decide` answers them one after the other. `facts` is what the journal keeps of each, `made
again` what `verify` does with it.

The second part files the same new mail into an empty SQLite database three times: with nobody in the directory; with
2,000 persons and no item; and with their deals too. So the difference is what the directory adds to a message:
looking people up, deciding, their facts, their links. `journal` is the time spent in writing the journal.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from maillinkd.app import office_of
from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.directory.lines import read_change
from maillinkd.ingest import changes, imports
from maillinkd.ingest.house import House
from maillinkd.linker.decision import Origin, Reason, Slot, Trigger
from maillinkd.linker.rules import decide
from maillinkd.linker.snapshot import Letter, Person, SlotItem, Snapshot
from maillinkd.linker.versions import RULES
from maillinkd.mail.message import Participant, Role
from maillinkd.settings import Settings
from maillinkd.store import journal
from maillinkd.store.database import open_database
from maillinkd.store.upgrade import upgrade

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PERSONS = 2_000
ANNA = "anna@ourco.example"
LENGTHS = (1, 1, 1, 2, 2, 3, 4, 6, 12, 30)
"""Messages of a thread: the mean is six."""


# --- From memory ----------------------------------------------------------------------------------------------------


def snapshots(count: int) -> list[Snapshot]:
    chance = random.Random(7)
    return [_snapshot(chance, number) for number in range(count)]


def _snapshot(chance: random.Random, number: int) -> Snapshot:
    length = chance.choice(LENGTHS)
    others = [f"person{chance.randrange(PERSONS)}@client.example" for _ in range(chance.choice((1, 1, 1, 2, 4)))]
    letters = tuple(
        Letter(
            message_id=f"{number}.{n}@x",
            sent_at=NOON + timedelta(minutes=number + n),
            participants=_people(others, n),
            has_references=n > 0,
            new=n == length - 1,
        )
        for n in range(length)
    )
    known = {
        address: (ItemRef(ItemKind.PERSON, address.partition("@")[0]),)
        for address in others
        if chance.random() < 0.75
    }
    refs = [ref for found in known.values() for ref in found]
    items = [
        SlotItem(
            ItemRef(ItemKind.DEAL, f"{ref.id}-{n}"),
            open=chance.random() < 0.6,
            added_at=NOON + timedelta(days=chance.choice((-30, -3, 30))),
            person=ref,
        )
        for ref in refs
        for n in range(chance.choice((0, 1, 1, 2)))
    ]
    slot = Slot()
    if items and length > 1 and chance.random() < 0.5:
        slot = Slot(items[0].ref, Origin.AUTO, items[0].added_at, 1, Reason.LINKED_SINGLE_OPEN_ITEM)
    return Snapshot(
        letters=letters,
        internal=frozenset({ANNA}),
        known=known,
        persons={ref: Person(ref, ItemRef(ItemKind.ORGANIZATION, "7")) for ref in refs},
        items={item.ref: item for item in items},
        slot=slot,
    )


def _people(others: Sequence[str], n: int) -> tuple[Participant, ...]:
    if n % 2:
        return (Participant(Role.FROM, ANNA), *(Participant(Role.TO, each) for each in others))
    return (
        Participant(Role.FROM, others[0]),
        Participant(Role.TO, ANNA),
        *(Participant(Role.CC, each) for each in others[1:]),
    )


def from_memory(seconds: float) -> None:
    given = snapshots(5_000)
    messages = sum(len(each.letters) for each in given) / len(given)
    print(f"from memory, threads of {messages:.1f} messages")
    report("decide", given, decide, seconds)
    report("facts", given, lambda each: json.dumps(each.facts()), seconds)
    written = [json.dumps(each.facts()) for each in given]
    rules = RULES[max(RULES)]
    reason = Reason.NO_ITEM
    report("made again", written, lambda text: rules(json.loads(text), Trigger.MESSAGE, reason, False), seconds)


def report(name: str, given: Sequence[Any], work: Any, seconds: float) -> None:
    done, started = 0, time.perf_counter()
    while (took := time.perf_counter() - started) < seconds:
        for each in given:
            work(each)
        done += len(given)
    print(f"  {name:<12} {done / took:10,.0f} a second   {took / done * 1e6:6.1f} us each")


# --- In the ingest path ---------------------------------------------------------------------------------------------

CONFIGURATION = {
    "policy": {"internal_domains": ["ourco.example"]},
    "users": {"anna": {"address": ANNA}},
    "mailboxes": {"anna": {"host": "imap.ourco.example", "username": ANNA, "password_env": "NONE"}},
}


def mails(count: int) -> list[tuple[bytes, datetime | None]]:
    """Every second one an answer to one before it."""
    chance = random.Random(11)
    made: list[tuple[bytes, datetime | None]] = []
    for n in range(count):
        fields = {
            "Message-ID": f"<{n}@x>",
            "From": f"person{chance.randrange(PERSONS)}@client.example",
            "To": ANNA,
            "Date": (NOON + timedelta(minutes=n)).strftime("%a, %d %b %Y %H:%M:%S +0000"),
            "Subject": "New roof",
        }
        if n % 2:
            fields["References"] = f"<{n - chance.choice((1, 1, 3, 5))}@x>"
        header = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        made.append((f"{header}\r\nGood morning.\r\n".encode(), None))
    return made


def directory(*, with_items: bool) -> Iterator[dict[str, object]]:
    yield {"kind": "organization", "id": "7", "title": "Client"}
    for n in range(PERSONS):
        yield {"kind": "person", "id": f"{n}", "addresses": [f"person{n}@client.example"], "organization": "7"}
        if with_items:
            yield {
                "kind": "deal",
                "id": f"{n}",
                "title": "Roof",
                "person": f"{n}",
                "added_at": "2026-01-01T00:00:00Z",
            }


class Stopwatch:
    """Time spent in a function, and how often."""

    def __init__(self, work: Any) -> None:
        self._work = work
        self.seconds = 0.0
        self.decisions = 0

    async def __call__(self, connection: Any, place: Any, entries: Sequence[Any], *rest: Any) -> Any:
        started = time.perf_counter()
        try:
            return await self._work(connection, place, entries, *rest)
        finally:
            self.seconds += time.perf_counter() - started
            self.decisions += len(entries)


async def filing(
    messages: Sequence[tuple[bytes, datetime | None]], items: Sequence[dict[str, object]]
) -> list[float]:
    """Seconds for all messages, seconds in the journal, and how many decisions there were."""
    with tempfile.TemporaryDirectory() as temporary:
        database = open_database(f"sqlite+aiosqlite:///{Path(temporary) / 'mail.db'}")
        await upgrade(database)
        office = office_of(Settings.model_validate(CONFIGURATION))
        house = House(database, office, instance="bench", publish=lambda _: None)
        if items:
            await changes.import_items(house, [read_change(item) for item in items])
        watch = Stopwatch(journal.append)
        original, journal.append = journal.append, watch  # type: ignore[assignment]
        try:
            started = time.perf_counter()
            for start in range(0, len(messages), 500):
                await imports.import_mail(house, "anna", messages[start : start + 500], lambda _: None)
            took = time.perf_counter() - started
        finally:
            journal.append = original
        await database.close()
    return [took, watch.seconds, watch.decisions]


def in_the_path(count: int, repeat: int) -> None:
    given = mails(count)
    directories = {
        "nobody known": [],
        "people": list(directory(with_items=False)),
        "people, deals": list(directory(with_items=True)),
    }
    taken: dict[str, list[list[float]]] = {name: [] for name in directories}
    for _ in range(repeat):
        for name, items in directories.items():
            taken[name].append(asyncio.run(filing(given, items)))
    print(f"filing {count:,} messages by 500, median of {repeat}")
    floor = 0.0
    for name, runs in taken.items():
        took = statistics.median(run[0] for run in runs) / count * 1e6
        written = statistics.median(run[1] / run[2] for run in runs) * 1e6
        floor = floor or took
        print(f"  {name:<14} {took:7.1f} us a message   +{took - floor:6.1f}   journal {written:5.1f} us a decision")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    from_memory(given.seconds)
    in_the_path(given.messages, given.repeat)


if __name__ == "__main__":
    main()
