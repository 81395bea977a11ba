"""What `simulate` and `verify` cost on a database with many threads, and how much memory they take.

    python bench/simulate.py [--threads 100000] [--directory DIR]

Makes a SQLite database (or uses the one that is in DIR from an earlier run) by importing invented mail: threads of
one to four messages with 2,000 persons who have no, one or two open deals. Then each command runs as a process of its
own, with a policy that changes something. What it prints is wall time, CPU time and peak memory; a `--help` is
the floor.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from maillinkd.app import open_house
from maillinkd.directory.lines import read_change
from maillinkd.ingest import changes, imports
from maillinkd.settings import load

PERSONS = 2_000
START = datetime(2025, 1, 1, 9, tzinfo=UTC)

CONFIGURATION = """\
[database]
url = "sqlite:///{directory}/mail.db"
[log]
format = "json"
decisions = "{directory}/decisions.jsonl"
[policy]
internal_domains = ["ourco.example"]
[users.anna]
address = "anna@ourco.example"
[mailboxes.anna]
host = "imap.ourco.example"
username = "anna@ourco.example"
password_env = "NONE"
"""

POLICY = """\
[policy]
preset = "pipedrive-strict"
count_only_older_items = true
"""


def items() -> Iterator[dict[str, object]]:
    """Every third person has no deal, every third one, every third two; the second is younger than half the mail."""
    for n in range(PERSONS):
        yield {"kind": "organization", "id": f"{n}", "title": f"Client {n}"}
        address = f"person{n}@client{n}.example"
        yield {"kind": "person", "id": f"{n}", "title": f"P {n}", "addresses": [address], "organization": f"{n}"}
        for m in range(n % 3):
            added = START + timedelta(days=-10 if m == 0 else 180)
            yield {"kind": "deal", "id": f"{n}-{m}", "title": "Roof", "person": f"{n}", "added_at": added.isoformat()}


def mails(threads: int) -> Iterator[tuple[bytes, None]]:
    chance = random.Random(7)
    for n in range(threads):
        person = chance.randrange(PERSONS)
        when = START + timedelta(minutes=5 * n)
        for m in range(chance.choice((1, 1, 2, 2, 3, 4))):
            sender, to = f"person{person}@client{person}.example", "anna@ourco.example"
            if m % 2:
                sender, to = to, sender
            date = (when + timedelta(minutes=m)).strftime("%a, %d %b %Y %H:%M:%S +0000")
            header = {
                "Message-ID": f"<{n}.{m}@x>",
                "From": sender,
                "To": to,
                "Date": date,
                "Subject": f"New roof {n}",
            } | ({"References": f"<{n}.0@x>"} if m else {})
            fields = "".join(f"{name}: {value}\r\n" for name, value in header.items())
            yield f"{fields}\r\nGood morning.\r\n".encode(), None


async def fill(directory: Path, threads: int) -> None:
    settings = load(directory / "maillinkd.toml")
    started = time.perf_counter()
    async with open_house(settings, publish=lambda _: None) as house:
        await changes.import_items(house, [read_change(item) for item in items()])
        await imports.import_mail(house, "anna", mails(threads), lambda _: None)
    print(f"made {threads:,} threads in {time.perf_counter() - started:.1f} s")


def measure(directory: Path, *arguments: str) -> str:
    """Runs a command, and says how long it took and how much memory. Returns what it printed last."""
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "maillinkd", "--config", str(directory / "maillinkd.toml"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        last = line
    _, status, usage = os.wait4(process.pid, 0)
    took = time.perf_counter() - started
    code = os.waitstatus_to_exitcode(status)
    cpu = usage.ru_utime + usage.ru_stime
    print(f"{arguments[0]:<10} {took:7.1f} s, CPU {cpu:7.1f} s  {usage.ru_maxrss / 1024:6.0f} MB  exit {code}")
    return last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=100_000)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        directory = given.directory or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "maillinkd.toml").write_text(CONFIGURATION.format(directory=directory.resolve()))
        (directory / "policy.toml").write_text(POLICY)
        if not (directory / "mail.db").exists():
            asyncio.run(fill(directory, given.threads))
        measure(directory, "status", "--help")
        summary = json.loads(measure(directory, "simulate", "--policy", str(directory / "policy.toml"), "--json"))
        print(f"  {summary['changes']:,} of {summary['threads']:,} threads would change")
        summary = json.loads(measure(directory, "verify", "--json"))
        print(f"  {summary['decisions']:,} decisions, {summary['problems']} problems")


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
