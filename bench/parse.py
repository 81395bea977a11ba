"""Reading mail and writing decision lines, on one core, measured beside the standard library on the same bytes.

    python bench/parse.py [--messages 5000] [--repeat 5]

Four pieces of work, each in microseconds of CPU time a message or line, the least of the turns:

- `fields`     `mail.message.read` on the header fields that IMAP brings; beside it `email.parser` with the headers
               that make up a thread (ids, date, subject, addresses)
- `header`     the same on whole header blocks, with the trace that relays leave
- `mbox`       cutting an mbox into its messages; beside it `mailbox.mbox`
- `decisions`  `logs.decision_line`; beside it `json.dumps`, which escapes nothing and checks nothing

From the second turn on the fields of people who write often are in the cache, as they are in a long first sync.
"""

import argparse
import json
import mailbox
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.parser import BytesHeaderParser
from email.policy import default
from functools import partial
from io import BytesIO
from pathlib import Path

import sample_mailbox
from maillinkd.logs import DECISION_FIELDS, decision_line
from maillinkd.mail import message
from maillinkd.mail.header import gather, split
from maillinkd.mail.mbox import read_mbox

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
READ = ("Message-ID", "In-Reply-To", "References", "Date", "Subject", "From", "To", "Cc")
TEXTS = ("owner", "mailbox", "trigger", "outcome", "reason", "slot", "actor", "policy")


def measure(messages: int, repeat: int) -> None:
    mails = [each.raw for each in sample_mailbox.generate(messages)]
    blocks = [split(raw)[0] for raw in mails]
    fetched = [gather(block, [name.lower() for name in message.FIELDS])[1] + b"\n" for block in blocks]
    decisions = [_decision(number) for number in range(messages)]
    for name, headers in (("fields", fetched), ("header", blocks)):
        _tell(name, messages, repeat, partial(_read, headers), partial(_read_by_email, headers))
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "mbox"
        path.write_bytes(b"".join(b"From a@b Mon Jan  5 12:00:00 2026\n" + raw + b"\n" for raw in mails))
        _tell("mbox", messages, repeat, partial(_cut, path), partial(_cut_by_mailbox, path))
    _tell(
        "decisions",
        messages,
        repeat,
        lambda: _exhaust(map(decision_line, decisions)),
        lambda: _exhaust(map(json.dumps, decisions)),
    )


def _tell(name: str, count: int, repeat: int, ours: Callable[[], None], theirs: Callable[[], None]) -> None:
    """Turn about, so that a slow minute of the machine strikes both."""
    turns = [(_seconds(ours), _seconds(theirs)) for _ in range(repeat)]
    our, their = (min(each) * 1e6 / count for each in zip(*turns, strict=True))
    print(f"{name:<10} maillinkd {our:6.1f} µs   standard library {their:7.1f} µs   {their / our:5.1f} times")


def _seconds(work: Callable[[], None]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _read(headers: Iterable[bytes]) -> None:
    for block in headers:
        message.read(block, NOON, 5_000)


def _read_by_email(headers: Iterable[bytes]) -> None:
    parser = BytesHeaderParser(policy=default)
    for block in headers:
        parsed = parser.parse(BytesIO(block))
        for name in READ:
            str(parsed[name])


def _cut(path: Path) -> None:
    with path.open("rb") as stream:
        _exhaust(read_mbox(stream))


def _cut_by_mailbox(path: Path) -> None:
    box = mailbox.mbox(path, create=False)
    _exhaust(box.get_bytes(key) for key in box.keys())  # noqa: SIM118  # it iterates over messages, not keys
    box.close()


def _exhaust(values: Iterable[object]) -> None:
    for _ in values:
        pass


def _decision(number: int) -> dict[str, object]:
    known: dict[str, object] = dict.fromkeys(DECISION_FIELDS)
    known |= {name: f"the {name} of it" for name in TEXTS}
    known |= {"v": 1, "event": "link", "timestamp": "2026-01-05T12:00:00.000Z", "level": "info", "decision": number}
    known |= {"message_id": f"<{number}@client.example>", "thread": number, "channel": "imap", "rule_version": 1}
    return known | {"persons": ["person:3"], "organizations": ["organization:7"], "candidates": [], "flags": []}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--messages", type=int, default=5_000)
    arguments.add_argument("--repeat", type=int, default=5)
    given = arguments.parse_args()
    measure(given.messages, given.repeat)


if __name__ == "__main__":
    main()
