"""What a new message costs in a database that holds many: filing in chunks, timed at each size.

    python bench/scale.py [--sizes 100000,1000000] [--window 10000] [--directory DIR]

Fills a SQLite database through the ordinary way in (parsed mail of made-up customers, some of whom the directory
knows), and measures the time a message over a window at each size. Nothing may grow with what is stored: the last
figure is the time at the largest size over that at the smallest.
"""

import argparse
import asyncio
import gc
import hashlib
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from maillinkd import app, settings
from maillinkd.directory.lines import read_line
from maillinkd.ingest import changes
from maillinkd.ingest.house import House
from maillinkd.ingest.synced import Synced
from maillinkd.mail.delivery import Fetched, FolderBatch, FolderCursor

CONFIGURATION = """\
[database]
url = "sqlite:///{directory}/maillinkd.db"
[policy]
internal_domains = ["ourco.example"]
[users.anna]
address = "anna@ourco.example"
[mailboxes.anna]
host = "127.0.0.1"
tls = "none"
username = "anna"
password_file = "{directory}/password"
"""
CHUNK = 1_000
THREAD = 4
"""Messages of a conversation, on average."""
KNOWN = 500
"""Customers whom the directory knows, each with a deal."""
START = datetime(2020, 1, 1, tzinfo=UTC)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=lambda text: sorted(map(int, text.split(","))), default=[100_000, 1_000_000])
    parser.add_argument("--window", type=int, default=10_000)
    parser.add_argument("--directory", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-", dir=arguments.directory) as scratch:
        asyncio.run(_measure(Path(scratch), arguments.sizes, arguments.window))


async def _measure(directory: Path, sizes: list[int], window: int) -> None:
    (directory / "maillinkd.toml").write_text(CONFIGURATION.format(directory=directory))
    (directory / "password").write_text("secret")
    found = {}
    async with app.open_house(settings.load(directory / "maillinkd.toml"), publish=lambda _: None) as house:
        await _know(house)
        gc.freeze()
        mails = _mails()
        count = 0
        for size in sizes:
            while count < size:
                count = await _file(house, mails, count)
            started, before = time.perf_counter(), count
            while count < size + window:
                count = await _file(house, mails, count)
            found[size] = (time.perf_counter() - started) / (count - before)
            megabytes = (directory / "maillinkd.db").stat().st_size / 1e6
            print(f"at {size:>9,} messages: {found[size] * 1e6:6.0f} us a message, {megabytes:,.0f} MB", flush=True)
    print(f"ratio {found[sizes[-1]] / found[sizes[0]]:.2f}")


async def _know(house: House) -> None:
    lines = []
    for number in range(KNOWN):
        address = f'"addresses":["mail@customer{number}.example"]'
        lines.append(f'{{"kind":"person","id":"{number}","title":"Customer {number}",{address}}}')
        deal = f'"status":"open","person":"{number}","added_at":"2019-01-01T00:00:00Z"'
        lines.append(f'{{"kind":"deal","id":"{number}","title":"Deal {number}",{deal}}}')
    await changes.import_items(house, [read_line(line) for line in lines])


async def _file(house: House, mails: Iterator[bytes], count: int) -> int:
    batch = []
    for uid in range(count + 1, count + CHUNK + 1):
        headers = next(mails)
        batch.append(Fetched(uid, headers, None, START + timedelta(minutes=uid), len(headers)))
    cursor = FolderCursor(1, count + CHUNK, 0, None, 0)
    await Synced(house).file(FolderBatch("anna", "INBOX", cursor, tuple(batch)))
    return count + CHUNK


def _mails() -> Iterator[bytes]:
    """Header blocks: conversations of a few messages that overlap, with one of ever more customers."""
    chance = random.Random(1)
    talks: list[tuple[int, list[str]]] = []
    number = 0
    while True:
        number += 1
        if len(talks) < 1_000 or chance.random() < 1 / THREAD:
            talks.append((chance.randrange(KNOWN + number // 20), []))
            if len(talks) > 1_000:
                talks.pop(0)
        customer, ids = chance.choice(talks)
        own = f"<{hashlib.blake2b(b'%d' % number, digest_size=12).hexdigest()}@customer{customer}.example>"
        people = (f"Customer <mail@customer{customer}.example>", "Anna <anna@ourco.example>")
        sender, recipient = people if len(ids) % 2 == 0 else people[::-1]
        fields = [f"From: {sender}", f"To: {recipient}", f"Subject: Offer {number}", f"Message-ID: {own}"]
        fields.append(f"Date: {START + timedelta(minutes=number):%a, %d %b %Y %H:%M:%S +0000}")
        if ids:
            fields += [f"In-Reply-To: {ids[-1]}", f"References: {' '.join(ids[-10:])}"]
        ids.append(own)
        yield "\r\n".join((*fields, "", "")).encode()


if __name__ == "__main__":
    main()
