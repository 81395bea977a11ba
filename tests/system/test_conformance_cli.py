"""The rules as cases, through the command line: what a person types is what is tested (tests/conformance/README.md).

Most cases run `main` in this process, because starting Python for each command would take minutes; a few are run as
separate processes too.
"""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from maillinkd.cli import main

ROOT = Path(__file__).resolve().parent.parent
CASES = sorted([*(ROOT / "conformance" / "linking").glob("*.json"), *(ROOT / "cases" / "linking").glob("*.json")])
AS_PROCESSES = ("owner-links-by-hand", "bcc-deal-address")
"""Cases that are run as processes too: a mailbox and a hand, Smart Bcc."""

Case = dict[str, Any]
Lines = list[dict[str, Any]]


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    output: str
    complaint: str

    @property
    def lines(self) -> Lines:
        return [json.loads(line) for line in self.output.splitlines()]


Command = Callable[[Sequence[str]], Ran]


def in_this_process(arguments: Sequence[str]) -> Ran:
    output, complaint = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(complaint):
        code = main(arguments)
    return Ran(code, output.getvalue(), complaint.getvalue())


def as_a_process(arguments: Sequence[str]) -> Ran:
    done = subprocess.run(
        [sys.executable, "-m", "maillinkd", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT.parent / "daemon")},
    )
    return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a database that was just made: migrations take longer than a case."""
    directory = tmp_path_factory.mktemp("empty")
    config = directory / "maillinkd.toml"
    config.write_text(f'[database]\nurl = "sqlite:///{directory}/mail.db"\n')
    assert in_this_process(["--config", str(config), "db", "upgrade"]).code == 0
    return (directory / "mail.db").read_bytes()


class Runner:
    """Feeds the steps of a case to the program and compares what came of it."""

    def __init__(self, case: Case, directory: Path, command: Command) -> None:
        self._case = case
        self._directory = directory
        self._command = command
        self._files = 0
        self._configure({})

    def play(self) -> None:
        self._items(self._case["items"])
        for step in self._case["steps"]:
            ((what, value),) = step.items()
            getattr(self, f"_{what}")(value)

    def check(self) -> None:
        """All threads are as expected, `explain` tells the same of each, and nothing else lies in quarantine."""
        found = [self._seen(line) for line in self._good("threads", "list", "--json").lines]
        for expected in self._case["expect"]:
            place = _place(expected["owner"], expected["channel"], (f"<{each}>" for each in expected["messages"]))
            there = [thread for thread in found if thread["place"] == place]
            assert there, f"no thread {place} among {[thread['place'] for thread in found]}"
            wanted = {key: _comparable(key, value) for key, value in expected.items() if key != "messages"}
            seen = [{key: thread[key] for key in wanted} for thread in there]
            assert wanted in seen, f"expected {wanted}, found {seen}"
            found.remove(there[seen.index(wanted)])
        assert found == []
        self._good("verify")
        held = self._good("quarantine", "list", "--json").lines
        expected_held = [(f"<{each['message']}>", each["reason"]) for each in self._case.get("quarantine", [])]
        assert sorted(expected_held) == sorted((each["message_id"], each["reason"]) for each in held)

    def _seen(self, line: dict[str, Any]) -> dict[str, Any]:
        """A thread as `threads list`, `threads show` and `explain` have it, to be compared with a case."""
        (shown,) = self._good("threads", "show", str(line["id"]), "--json").lines
        assert line == {key: shown[key] for key in line}
        (explained,) = self._good("explain", str(line["id"]), "--json").lines
        _check_explained(line, explained)
        messages = shown["messages"]
        seen = {key: _comparable(key, value) for key, value in line.items()}
        seen["place"] = _place(line["owner"], line["channel"], line["message_ids"])
        seen["excluded"] = {m["message_id"][1:-1] for m in messages if "excluded_from_item" in m["flags"]}
        return seen

    # -- steps

    def _mail(self, mail: Case) -> None:
        if "mailbox" in mail:
            self._import_mbox(mail["mailbox"], [mail])
            return
        path = self._file("eml", _message(mail))
        recipients = mail["smart_bcc"] if isinstance(mail["smart_bcc"], list) else [mail["smart_bcc"]]
        named = [part for recipient in recipients for part in ("--smart-bcc", recipient)]
        self._good("import", "mail", path, *named, "--sender", mail["sender"], "--json")

    def _mails(self, mails: Sequence[Case]) -> None:
        (mailbox,) = {mail["mailbox"] for mail in mails}
        self._import_mbox(mailbox, mails)

    def _import_mbox(self, mailbox: str, mails: Iterable[Case]) -> None:
        path = self._file("mbox", b"".join(map(_in_mbox, mails)))
        self._good("import", "mail", path, "--mailbox", mailbox, "--json")

    def _items(self, items: Sequence[Case]) -> None:
        if items:
            path = self._file("jsonl", "".join(json.dumps(item) + "\n" for item in items).encode())
            self._good("import", "items", path)

    def _link(self, hand: Case) -> None:
        self._by_hand("link", hand)

    def _unlink(self, hand: Case) -> None:
        self._by_hand("unlink", hand)

    def _by_hand(self, what: str, hand: Case) -> None:
        named = hand["thread_of"] if isinstance(hand["thread_of"], list) else [hand["thread_of"]]
        threads = [str(self._thread_of({**hand, "thread_of": each})["id"]) for each in named]
        before = [self._good("threads", "show", each, "--json").lines for each in threads]
        ran = self._run(what, *threads, hand["item"], "--as", hand["as"])
        if hand.get("refused"):
            assert ran.code in (1, 77), ran
            assert before == [self._good("threads", "show", each, "--json").lines for each in threads]
        else:
            assert ran.code == 0, ran

    def _undo(self, choice: Case) -> None:
        """`left`: a message of each thread that is left as it is."""
        before = self._good("threads", "list", "--json").lines
        ran = self._run("undo", str(choice["batch"]), "--as", choice["as"], "--json")
        if choice.get("refused"):
            assert ran.code in (1, 77), ran
            assert before == self._good("threads", "list", "--json").lines
            return
        left = sorted(line["thread"] for line in ran.lines if line["event"] == "left")
        expected = [self._thread_of({"thread_of": each})["id"] for each in choice.get("left", [])]
        assert (sorted(expected), int(bool(expected))) == (left, ran.code), ran

    def _propose(self, choice: Case) -> None:
        """What is proposed is listed, and linked where somebody is named who does it."""
        item = ["--item", choice["item"]]
        listed = self._good("propose", *item, "--json").lines
        assert [line["message_ids"] for line in listed] == [[f"<{each}>"] for each in choice["threads"]]
        if "as" in choice:
            self._good("propose", *item, "--link", "--as", choice["as"])

    def _thread_of(self, hand: Case) -> dict[str, Any]:
        found = [
            thread
            for thread in self._good("threads", "list", "--json").lines
            if f"<{hand['thread_of']}>" in thread["message_ids"]
            and thread["channel"] == hand.get("channel", "imap")
            and hand.get("owner", thread["owner"]) == thread["owner"]
        ]
        assert len(found) == 1, found
        return found[0]

    def _decide(self, choice: Case) -> None:
        self._good("decide", *(["--item", choice["item"]] if "item" in choice else []))

    def _configured(self, changes: Case) -> None:
        """The configuration is changed while the program is not running."""
        self._configure(changes)

    def _released(self, choice: Case) -> None:
        held = self._good("quarantine", "list", "--json").lines
        (number,) = [each["id"] for each in held if each["message_id"] == f"<{choice['message']}>"]
        owner = ["--owner", choice["owner"]] if "owner" in choice else []
        self._good("quarantine", "release", str(number), *owner)

    # -- the program

    def _run(self, *arguments: str) -> Ran:
        return self._command(["--config", str(self._directory / "maillinkd.toml"), *arguments])

    def _good(self, *arguments: str) -> Ran:
        ran = self._run(*arguments)
        assert ran.code == 0, ran
        return ran

    def _file(self, kind: str, content: bytes) -> str:
        self._files += 1
        path = self._directory / f"{self._files}.{kind}"
        path.write_bytes(content)
        return str(path)

    def _configure(self, changes: Case) -> None:
        case = self._case
        users = {user["name"]: {k: v for k, v in user.items() if k != "name"} for user in case["users"]}
        boxes = {mail["mailbox"] for step in case["steps"] for mail in _mails_of(step) if "mailbox" in mail}
        mailboxes = {name: {"host": "imap.example.com", "username": name} for name in boxes}
        tables: dict[str, Any] = {
            "database": {"url": f"sqlite:///{self._directory}/mail.db"},
            "log": {"format": "json"},
            "policy": {"internal_domains": ["ourco.example"], **case["policy"], **changes.get("policy", {})},
            "smart_bcc": {"domain": "bcc.ourco.example", "local_part": "ourco", **case.get("smart_bcc", {})},
            "users": _merged(users, changes.get("users", {})),
            "teams": case.get("teams", {}),
            "mailboxes": _merged(mailboxes, case.get("mailboxes", {}), changes.get("mailboxes", {})),
        }
        (self._directory / "maillinkd.toml").write_text("\n".join(_toml(tables)))


def _merged(tables: Mapping[str, Any], *changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(tables)
    for change in changes:
        for name, values in change.items():
            result[name] = {**result.get(name, {}), **values}
    return result


def _toml(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterable[str]:
    values = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    if path and (values or not table):
        yield f"[{'.'.join(path)}]"
    for key, value in values.items():
        yield f"{key} = {json.dumps(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml(value, (*path, key))


def _mails_of(step: Case) -> list[Case]:
    return step.get("mails") or ([step["mail"]] if "mail" in step else [])


def _message(mail: Case) -> bytes:
    message = EmailMessage()
    for field, key in (("From", "from"), ("Reply-To", "reply_to"), ("To", "to"), ("Cc", "cc")):
        value = mail.get(key)
        if value:
            message[field] = value if isinstance(value, str) else ", ".join(value)
    message["Subject"] = mail.get("subject", "New roof")
    message["Date"] = format_datetime(_date(mail))
    message["Message-ID"] = f"<{mail['id']}>"
    if "in_reply_to" in mail:
        message["In-Reply-To"] = f"<{mail['in_reply_to']}>"
    if mail.get("references"):
        message["References"] = " ".join(f"<{each}>" for each in mail["references"])
    for field, value in mail.get("header", {}).items():
        message[field] = value
    message.set_content(mail.get("body", "Hello"))
    if "attached" in mail:
        message.add_attachment(_attached(mail["attached"]))
    return message.as_bytes()


def _attached(mail: Case) -> EmailMessage:
    from email import message_from_bytes
    from email.policy import default

    return message_from_bytes(_message(mail), policy=default)  # type: ignore[return-value]


def _in_mbox(mail: Case) -> bytes:
    received = _date({"date": mail.get("received", mail["date"])})
    body = _message(mail).replace(b"\nFrom ", b"\n>From ")
    return b"From sender@example.com %b\n%b\n" % (f"{received:%a %b %d %H:%M:%S %Y}".encode(), body)


def _date(mail: Case) -> datetime:
    return datetime.fromisoformat(mail["date"]).astimezone(UTC)


def _place(owner: str, channel: str, message_ids: Iterable[str]) -> tuple[str, str, list[str]]:
    return owner, channel, sorted(message_ids)


def _comparable(key: str, value: Any) -> Any:
    is_set = key in ("persons", "organizations", "candidates", "flags", "participants", "excluded")
    return set(value) if is_set else value


def _check_explained(thread: dict[str, Any], explained: dict[str, Any]) -> None:
    """`explain` asks up to the row that decided, the only one to say yes, and names the thread's reason."""
    assert (thread["decision"], thread["reason"]) == (explained["decision"], explained["reason"])
    rows = explained["rows"]
    assert [row["row"] for row in rows] == list(range(1, 15))
    assert all(row["because"] for row in rows)
    answers = [row["answer"] for row in rows if row["asked"]]
    if explained["trigger"] == "directory":
        assert answers == []
    else:
        assert answers == [False] * (len(answers) - 1) + [True]
        assert [thread["reason"]] == [row["reason"] for row in rows if row["answer"]]
    assert (explained["would_fill"] is None) == (thread["slot"] is not None)
    linked = {each["item"] for each in explained["contacts"] if each["linked"]}
    assert linked == {*thread["persons"], *thread["organizations"]}


def _load(path: Path) -> Case:
    return json.loads(path.read_text())  # type: ignore[no-any-return]


@pytest.mark.parametrize("path", CASES, ids=lambda path: f"{path.parent.parent.name}/{path.stem}")
def test_the_program_decides_as_the_case_says(path: Path, tmp_path: Path, empty_database: bytes) -> None:
    (tmp_path / "mail.db").write_bytes(empty_database)
    runner = Runner(_load(path), tmp_path, in_this_process)

    runner.play()

    runner.check()


@pytest.mark.parametrize("name", AS_PROCESSES)
def test_a_process_decides_as_the_case_says(name: str, tmp_path: Path, empty_database: bytes) -> None:
    (tmp_path / "mail.db").write_bytes(empty_database)
    runner = Runner(_load(ROOT / "conformance" / "linking" / f"{name}.json"), tmp_path, as_a_process)

    runner.play()

    runner.check()
