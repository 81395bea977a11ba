"""Items: how fast a file of them is taken in, and what one changed item costs beside many threads.

    python bench/items.py [--items 100000] [--threads 1000 100000] [--url sqlite]

Everything is invented. The second figure changes a person of ten threads, in a database of so many threads.
"""

import argparse
import asyncio
import csv
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl

from maillinkd.app import open_house
from maillinkd.cli import item_files
from maillinkd.directory.lines import read_change
from maillinkd.ingest import changes, imports
from maillinkd.settings import Settings

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
OWN = 10
"""Threads of the person who is changed."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--threads", type=int, nargs="*", default=[1_000, 100_000])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        for kind in ("jsonl", "csv", "xlsx"):
            asyncio.run(_import(Path(directory), kind, given.items))
        for number in given.threads:
            asyncio.run(_change(Path(directory), number))


def _settings(path: Path) -> Settings:
    return Settings.model_validate(
        {
            "database": {"url": f"sqlite:///{path}"},
            "users": {"anna": {"address": "anna@ourco.example"}},
            "mailboxes": {"anna": {"host": "imap.ourco.example", "username": "anna", "password_env": "NONE"}},
        }
    )


async def _import(directory: Path, kind: str, number: int) -> None:
    path = directory / f"items.{kind}"
    files = _WRITERS[kind](path, number)
    async with open_house(_settings(directory / f"{kind}.db")) as house:
        for what in ("new", "unchanged"):
            start, cpu = time.perf_counter(), time.process_time()
            found = item_files.read(files, UTC)
            read = time.perf_counter()
            plan = await item_files.plan(house, found, ())
            planned = time.perf_counter()
            await item_files.carry_out(house, plan, lambda _: None)
            end = time.perf_counter()
            assert not found.problems, found.problems[:3]
            assert not plan.problems, plan.problems[:3]
            cpu = time.process_time() - cpu
            steps = f"reading {read - start:.1f}, comparing {planned - read:.1f}, writing {end - planned:.1f}"
            took = f"{end - start:5.1f} s, {cpu:.1f} of them CPU ({steps})"
            print(f"{kind:5} {len(found.changes):,} items, {what:9}: {took}", flush=True)


def _items(number: int) -> Iterator[dict[str, Any]]:
    """A third each of organizations, persons and deals."""
    for each in range(number // 3 + 1):
        yield {"kind": "organization", "id": str(each), "title": f"Client {each} Ltd"}
        yield {
            "kind": "person",
            "id": str(each),
            "title": f"Carla Client {each}",
            "addresses": [f"carla@client{each}.example"],
            "organization": str(each),
        }
        yield {
            "kind": "deal",
            "id": str(each),
            "title": f"Roof {each}",
            "status": "open",
            "person": str(each),
            "added_at": "2026-01-05T09:00:00Z",
        }


def _lines(path: Path, number: int) -> list[Path]:
    with path.open("w") as stream:
        for _, item in zip(range(number), _items(number), strict=False):
            stream.write(json.dumps(item) + "\n")
    return [path]


HEADERS = {
    "organization": ["Organization - ID", "Organization - Name"],
    "person": ["Person - ID", "Person - Name", "Person - Email - Work", "Person - Organization"],
    "deal": ["Deal - ID", "Deal - Title", "Deal - Status", "Deal - Contact person", "Deal - Deal created"],
}


def _rows(kind: str, number: int) -> Iterator[list[str]]:
    """Linked by their names."""
    yield HEADERS[kind]
    for each in range(number // 3 + 1):
        rows = {
            "organization": [str(each), f"Client {each} Ltd"],
            "person": [str(each), f"Carla Client {each}", f"carla@client{each}.example", f"Client {each} Ltd"],
            "deal": [str(each), f"Roof {each}", "Open", f"Carla Client {each}", "2026-01-05 09:00:00"],
        }
        yield rows[kind]


def _tables(path: Path, number: int) -> list[Path]:
    paths = [path.with_stem(kind) for kind in HEADERS]
    for kind, each in zip(HEADERS, paths, strict=True):
        with each.open("w", newline="") as stream:
            csv.writer(stream).writerows(_rows(kind, number))
    return paths


def _workbooks(path: Path, number: int) -> list[Path]:
    paths = [path.with_stem(kind) for kind in HEADERS]
    for kind, each in zip(HEADERS, paths, strict=True):
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet()
        for row in _rows(kind, number):
            sheet.append(row)
        book.save(each)
    return paths


_WRITERS = {"jsonl": _lines, "csv": _tables, "xlsx": _workbooks}


async def _change(directory: Path, threads: int) -> None:
    async with open_house(_settings(directory / f"threads{threads}.db")) as house:
        lines: list[dict[str, Any]] = []
        house.publish = lines.append
        await changes.import_items(house, [read_change({"kind": "organization", "id": id_}) for id_ in ("0", "1")])
        await changes.import_items(house, [read_change(_person(number, "0")) for number in range(200)])
        await imports.import_mail(house, "anna", _mails(threads), lambda _: None)
        figures = []
        for turn in range(21):
            lines.clear()
            start = time.perf_counter()
            await changes.import_items(house, [read_change(_person(0, str(turn % 2)))])
            figures.append((time.perf_counter() - start) * 1_000)
        median, worst = statistics.median(figures[1:]), max(figures[1:])
        moved = f"a person of {len(lines)} threads joins another organization"
        print(f"among {threads:,} threads {moved}: {median:.1f} ms ({worst:.1f} at worst)", flush=True)


def _person(number: int, organization: str) -> dict[str, Any]:
    return {
        "kind": "person",
        "id": str(number),
        "addresses": [f"carla@client{number}.example"],
        "organization": organization,
    }


def _mails(threads: int) -> Iterator[tuple[bytes, datetime | None]]:
    for number in range(threads):
        client = 0 if number % (threads // OWN) == 0 else 1 + number % 199
        when = NOON + timedelta(minutes=number)
        yield (
            (
                f"From: carla@client{client}.example\r\nTo: anna@ourco.example\r\nSubject: Roof {number}\r\n"
                f"Date: {when:%a, %d %b %Y %H:%M:%S} +0000\r\nMessage-ID: <{number}@client.example>\r\n\r\nHello\r\n"
            ).encode(),
            when,
        )


if __name__ == "__main__":
    main()
