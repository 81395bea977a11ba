"""One line an event, the promised fields, nothing forged, nothing secret."""

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import IO, Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from maillinkd import logs
from maillinkd.linker.decision import Reason
from maillinkd.logs import (
    DECISION_FIELDS,
    MAX_STRING,
    DecisionFile,
    DecisionLog,
    configure,
    decision_line,
    decision_text,
    plain,
)

# As contract.md shows it, with a time.
CONTRACT = (
    '{"v":1,"event":"link","timestamp":"2026-01-05T09:00:00.000Z","level":"info","decision":41,"thread":12,'
    '"owner":"anna","channel":"imap","mailbox":"anna","message_id":"<b@y>","trigger":"message","outcome":"linked",'
    '"reason":"linked_single_open_item","slot":"deal:61","slot_before":null,"persons":["person:3"],'
    '"organizations":["organization:7"],"candidates":["deal:61"],"flags":[],"actor":"auto",'
    '"policy":"recommended@3f2a91","rule_version":1}'
)
DECISION: dict[str, Any] = json.loads(CONTRACT)


class Numbered(Enum):
    ONE = 1


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class FullDisk(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leaves logging as it was found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def only(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().removesuffix("\n").split("\n")
    found: dict[str, Any] = json.loads(line)
    return found


# --- The decision line ----------------------------------------------------------------------------------------------


def test_the_decision_line_is_the_contract_s() -> None:
    assert decision_line(DECISION) == CONTRACT


def test_the_constant_fields_are_filled_in() -> None:
    fields = {name: DECISION[name] for name in DECISION if name not in ("v", "event", "level")}

    assert decision_line(fields) == CONTRACT


def test_the_order_of_the_fields_is_the_contract_s_whatever_is_given() -> None:
    assert decision_line(dict(reversed(DECISION.items()))) == CONTRACT


def test_a_time_is_told_in_utc_with_z() -> None:
    time = datetime(2026, 1, 5, 10, tzinfo=timezone(timedelta(hours=1)))

    assert decision_line(DECISION | {"timestamp": time}) == CONTRACT


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({name: DECISION[name] for name in DECISION if name != "slot"}, "slot"),
        (DECISION | {"subject": "New roof"}, "subject"),
    ],
)
def test_neither_more_nor_less_is_told(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        decision_line(fields)


@given(text=st.text(), ids=st.lists(st.text()))
def test_a_decision_is_one_line_whatever_strangers_write(text: str, ids: list[str]) -> None:
    line = decision_line(DECISION | {"message_id": text, "persons": ids})

    assert line.splitlines() == [line]
    assert not logs.UNSAFE.search(line)
    line.encode()
    told = json.loads(line)
    assert list(told) == list(DECISION_FIELDS)
    assert told["message_id"] == text[:1024]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\r\t\x00", r"a\nb\r\t\u0000"),
        ("\x1b[2J", r"\u001b[2J"),
        ("\x7f\x85\x9b", r"\u007f\u0085\u009b"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("\u202egpj.exe\u2066", r"\u202egpj.exe\u2066"),
        ("\u200f\ufeff\u200b", r"\u200f\ufeff\u200b"),
        ("\ud800", r"\ud800"),
        ("bücher 東京", "bücher 東京"),
    ],
)
def test_what_could_steer_a_terminal_is_escaped(text: str, told: str) -> None:
    assert f'"message_id":"{told}"' in decision_line(DECISION | {"message_id": text})


values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(2**64) - 1, 2**64 + 1),
    st.floats(),
    st.text(),
    st.text(st.characters(max_codepoint=0x80), max_size=40),
    st.sampled_from(["x" * MAX_STRING, Path("/a"), datetime(2026, 1, 5, tzinfo=UTC), Reason.NO_ITEM, Numbered.ONE]),
)


@given(
    st.dictionaries(st.text(st.characters(max_codepoint=0x80), max_size=5), st.one_of(values, st.lists(values))),
    st.sampled_from([20, MAX_STRING]),
)
def test_a_line_is_what_the_standard_library_writes_with_escapes(fields: dict[str, Any], longest: int) -> None:
    def cut(value: Any) -> Any:
        if isinstance(value, list):
            return [cut(each) for each in value]
        return value[:longest] + "…" if isinstance(value, str) and len(value) > longest else value

    def told(value: Any) -> str:
        return logs.timestamp(value) if isinstance(value, datetime) else str(value)

    kept = {cut(name): cut(value) for name, value in fields.items()}
    text = json.dumps(kept, ensure_ascii=False, separators=(",", ":"), default=told)

    assert logs.UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text) == logs.json_line(fields, longest)


def test_a_long_string_is_cut() -> None:
    told = json.loads(decision_line(DECISION | {"message_id": "x" * 5_000}))

    assert told["message_id"] == "x" * 1_024 + "…"


def test_a_person_reads_time_outcome_thread_slot_reason_persons_and_message() -> None:
    words = decision_text(DECISION).split()

    assert re.fullmatch(r"[0-2]\d:[0-5]\d:[0-5]\d", words[0])
    assert words[1:] == ["linked", "thread", "12", "deal:61", "linked_single_open_item", "person:3", "<b@y>"]


def test_a_person_reads_the_candidates_where_the_slot_is_empty() -> None:
    fields = {"slot": None, "candidates": ["deal:1", "lead:2"], "flags": ["provisional"], "persons": []}
    text = decision_text(DECISION | fields | {"outcome": "ambiguous", "message_id": None})

    assert text.split()[1:] == [
        "ambiguous", "thread", "12", "deal:1?", "lead:2?", "linked_single_open_item", "-", "-", "[provisional]",
    ]  # fmt: skip


def test_colours_are_for_terminals() -> None:
    assert "\x1b[32mlinked" in decision_text(DECISION, coloured=True)
    assert "\x1b" not in decision_text(DECISION)


@given(text=st.text())
def test_a_person_s_line_cannot_be_forged_either(text: str) -> None:
    line = decision_text(DECISION | {"message_id": text, "persons": [text], "reason": text})

    assert not logs.UNSAFE.search(line)
    assert len(line.splitlines()) == 1


# --- Where decisions go ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("format", "expected"),
    [("json", CONTRACT), ("journal", f"<6>{CONTRACT}"), ("console", decision_text(DECISION))],
)
def test_a_decision_is_told_in_the_form_of_the_log(stream: io.StringIO, format: logs.Format, expected: str) -> None:
    configure(format, stream).write(DECISION)

    assert stream.getvalue() == expected + "\n"


def test_the_file_gets_json_alone_whatever_the_log_s_form(stream: io.StringIO, tmp_path: Path) -> None:
    decisions = configure("console", stream, tmp_path / "decisions")
    structlog.get_logger().info("something else")
    decisions.write(DECISION)

    assert (tmp_path / "decisions").read_text() == CONTRACT + "\n"
    decisions.close()


def test_the_file_is_there_from_the_start_for_its_owner_alone(stream: io.StringIO, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        configure("json", stream, tmp_path / "decisions").close()
    finally:
        os.umask(before)

    assert (tmp_path / "decisions").stat().st_mode & 0o777 == 0o640


def test_a_file_that_cannot_be_opened_is_told_at_once(stream: io.StringIO, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        configure("json", stream, tmp_path / "nowhere" / "decisions")


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_can_be_written_is_found_good_and_not_touched(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "decisions"
    if there:
        path.write_text("earlier\n")
    logs.require_decisions_file(path)

    assert [each.name for each in tmp_path.iterdir()] == (["decisions"] if there else [])


@pytest.mark.parametrize(("name", "expected"), [("no/decisions", FileNotFoundError), ("folder", IsADirectoryError)])
def test_a_file_that_cannot_be_written_is_found_out_beforehand(
    tmp_path: Path, name: str, expected: type[OSError]
) -> None:
    (tmp_path / "folder").mkdir()

    with pytest.raises(expected):
        logs.require_decisions_file(tmp_path / name)


def test_a_folder_that_takes_no_file_is_found_out_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere

    with pytest.raises(PermissionError):
        logs.require_decisions_file(tmp_path / "decisions")


def test_the_file_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "decisions"
    path.write_text("earlier\n")
    file = DecisionFile(path)
    file.write("later")

    assert path.read_text() == "earlier\nlater\n"
    file.close()


@pytest.mark.parametrize("way", ["renamed", "removed", "replaced"])
def test_after_a_rotation_the_next_line_is_in_the_new_file(tmp_path: Path, way: str) -> None:
    path, rotated = tmp_path / "decisions", tmp_path / "decisions.1"
    file = DecisionFile(path)
    file.write("first")
    match way:
        case "renamed":
            path.rename(rotated)
        case "removed":
            path.unlink()
        case "replaced":
            path.rename(rotated)
            path.touch()
    file.write("second")

    assert path.read_text() == "second\n"
    file.close()


def test_a_line_after_a_torn_one_stands_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = DecisionFile(tmp_path / "decisions")
    write = os.write

    def full_disk(fd: int, data: bytes) -> int:
        if len(data) < 5:
            raise OSError(28, "No space left on device")
        return write(fd, data[:5])

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full_disk)
        with pytest.raises(OSError, match="No space"):
            file.write("first!")
    file.write("second")

    assert (tmp_path / "decisions").read_text() == "first\nsecond\n"
    file.close()


@pytest.mark.parametrize(("stream", "file"), [(io.StringIO(), Path("/dev/full")), (FullDisk(), None)])
def test_a_decision_that_could_not_be_told_is_an_error(stream: io.StringIO, file: Path | None) -> None:
    decisions = configure("json", stream, file)

    with pytest.raises(OSError, match="No space"):
        decisions.write(DECISION)

    decisions.close()


def test_several_writers_share_a_file_line_by_line(tmp_path: Path) -> None:
    one, other = DecisionFile(tmp_path / "decisions"), DecisionFile(tmp_path / "decisions")
    for number in range(100):
        one.write(f"one {number}")
        other.write(f"other {number}")

    found = (tmp_path / "decisions").read_text().splitlines()
    assert found == [f"{who} {number}" for number in range(100) for who in ("one", "other")]
    one.close()
    other.close()


# --- Which form -----------------------------------------------------------------------------------------------------


def _journal_stream(stream: IO[str]) -> str:
    status = os.fstat(stream.fileno())
    return f"{status.st_dev}:{status.st_ino}"


def test_auto_is_console_on_a_terminal_and_json_elsewhere(stream: io.StringIO) -> None:
    assert logs.resolved("auto", Terminal(), {}) == "console"
    assert logs.resolved("auto", stream, {}) == "json"


def test_auto_is_journal_where_systemd_connected_the_stream(tmp_path: Path) -> None:
    with (tmp_path / "journal").open("w") as stream, (tmp_path / "file").open("w") as other:
        environ = {"JOURNAL_STREAM": _journal_stream(stream)}

        assert logs.resolved("auto", stream, environ) == "journal"
        assert logs.resolved("auto", other, environ) == "json"


def test_a_form_that_was_chosen_holds(stream: io.StringIO) -> None:
    assert logs.resolved("journal", Terminal(), {}) == "journal"


def test_colours_are_left_out_where_nobody_wants_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    configure("auto", terminal).write(DECISION)
    structlog.get_logger().error("broken")

    assert "\x1b" not in terminal.getvalue()


def test_a_terminal_sees_the_level_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    terminal = Terminal()
    configure("auto", terminal)
    structlog.get_logger().error("broken")

    assert "\x1b[31merror" in terminal.getvalue()


# --- Other events ---------------------------------------------------------------------------------------------------


def test_an_event_is_one_line_of_json_with_its_time(stream: io.StringIO) -> None:
    configure("json", stream)
    before = datetime.now(UTC) - timedelta(seconds=1)
    structlog.get_logger().info("connected", mailbox="anna", folders=("INBOX", "Gesendet"))

    told = only(stream)
    time = told.pop("timestamp")
    assert told == {"level": "info", "event": "connected", "mailbox": "anna", "folders": ["INBOX", "Gesendet"]}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time)
    assert before < datetime.fromisoformat(time) <= datetime.now(UTC)


def test_a_person_reads_words_and_fields(stream: io.StringIO) -> None:
    configure("console", stream)
    structlog.get_logger().warning("slow", folder="Sent Items", seconds=3, found=None, name="", say='a"b=c')

    (line,) = lines(stream)
    assert line[8:] == '  warning    slow folder="Sent Items" seconds=3 found=null name="" say="a\\"b=c"'


def test_the_journal_gets_a_priority_and_no_time(stream: io.StringIO) -> None:
    configure("journal", stream)
    log = structlog.get_logger()
    log.info("a", b=1)
    log.warning("a")
    log.error("a")
    log.critical("a")

    assert lines(stream) == ["<6>a b=1", "<4>a", "<3>a", "<2>a"]


def test_debug_is_not_told(stream: io.StringIO) -> None:
    configure("json", stream)
    structlog.get_logger().debug("detail")

    assert stream.getvalue() == ""


def test_bound_context_is_told(stream: io.StringIO) -> None:
    configure("json", stream)
    with structlog.contextvars.bound_contextvars(mailbox="anna"):
        structlog.get_logger().info("connected")

    assert only(stream)["mailbox"] == "anna"


@pytest.mark.parametrize("format", ["json", "console", "journal"])
def test_no_event_is_forged(stream: io.StringIO, format: logs.Format) -> None:
    configure(format, stream)
    structlog.get_logger().info("subject\n{}", **{"key\n": "value\x1b[2J\n<0>emergency", "list": ["\u202e\n"]})

    assert len(lines(stream)) == 1
    assert not logs.UNSAFE.search(stream.getvalue().removesuffix("\n"))


def _fail(text: str) -> None:
    raise RuntimeError(text)


@pytest.mark.parametrize("format", ["json", "console", "journal"])
def test_a_traceback_is_told_and_cannot_forge_a_line(stream: io.StringIO, format: logs.Format) -> None:
    configure(format, stream)
    try:
        _fail("bad\x1b[2J\u2028\n<0>forged")
    except RuntimeError:
        structlog.get_logger().exception("filing failed", mailbox="anna")

    assert "RuntimeError: bad" in stream.getvalue()
    assert not logs.UNSAFE.search(stream.getvalue().replace("\n", ""))
    if format == "json":
        assert only(stream)["exception"].endswith("<0>forged")
    if format == "journal":
        assert [line for line in lines(stream) if not line.startswith("<3>")] == []


def test_what_json_does_not_know_is_told_as_text(stream: io.StringIO) -> None:
    configure("json", stream)
    structlog.get_logger().info("x", path=Path("/a"), time=datetime(2026, 1, 5, tzinfo=UTC), names={"b"})

    told = only(stream)
    assert (told["path"], told["time"], told["names"]) == ("/a", "2026-01-05T00:00:00.000Z", ["b"])


@pytest.mark.parametrize("name", ["password", "IMAP_PASSWORD", "access_token", "client_secret", "authorization"])
@pytest.mark.parametrize("format", ["json", "console", "journal"])
def test_secrets_are_left_out_however_deep(stream: io.StringIO, format: logs.Format, name: str) -> None:
    configure(format, stream)
    structlog.get_logger().info("login", user="anna", **{name: "canary"}, more={"a": [{name: "canary"}]})

    assert "canary" not in stream.getvalue()
    assert "anna" in stream.getvalue()


def test_a_log_that_cannot_be_written_stops_nothing(stream: io.StringIO) -> None:
    configure("json", FullDisk())
    structlog.get_logger().info("lost")
    stream.close()
    configure("json", stream)
    structlog.get_logger().info("lost")


# --- Libraries ------------------------------------------------------------------------------------------------------


def test_what_libraries_say_comes_out_as_events(stream: io.StringIO) -> None:
    configure("json", stream)
    logging.getLogger("some.library").warning("peer %s", "x\ny")

    told = only(stream)
    assert (told["level"], told["event"], told["logger"]) == ("warning", "peer x\ny", "some.library")


@pytest.mark.parametrize("name", ["mail.log", "aioimaplib.aioimaplib", "asyncio", "anything"])
def test_libraries_are_quiet_even_if_they_set_a_level(stream: io.StringIO, name: str) -> None:
    configure("json", stream)
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)

    before = logging.getLogger(name).level
    logging.getLogger(name).setLevel(logging.DEBUG)
    logging.getLogger(name).info("LOGIN anna canary")
    logging.getLogger(name).setLevel(before)

    assert stream.getvalue() == ""


def test_a_library_s_wrong_format_is_told_as_it_is(stream: io.StringIO) -> None:
    logging.getLogger().handlers[:] = []  # pytest's own would raise
    configure("json", stream)
    logging.getLogger("x").error("%d bytes", "many")

    assert only(stream)["event"] == "%d bytes"


def test_a_library_s_own_level_is_told_as_the_one_below(stream: io.StringIO) -> None:
    configure("json", stream)
    logging.getLogger("x").log(35, "between")
    logging.getLogger("x").log(60, "beyond")

    assert [json.loads(line)["level"] for line in lines(stream)] == ["warning", "critical"]


def test_warnings_of_python_come_out_as_events(stream: io.StringIO) -> None:
    configure("json", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.warn("careful", UserWarning, stacklevel=1)

    assert "careful" in only(stream)["event"]


def test_configuring_again_says_nothing_twice(stream: io.StringIO) -> None:
    configure("json", io.StringIO())
    log = structlog.get_logger()
    configure("json", stream)
    logging.getLogger("x").warning("once")
    log.info("an older logger follows")

    assert [json.loads(line)["event"] for line in lines(stream)] == ["once", "an older logger follows"]


def test_without_a_stream_it_is_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json").write(DECISION)

    assert capsys.readouterr() == ("", CONTRACT + "\n")


# --- Small ones -----------------------------------------------------------------------------------------------------


@given(text=st.text())
def test_plain_text_is_one_short_line(text: str) -> None:
    line = plain(text * 3, longest=20)

    assert not logs.UNSAFE.search(line)
    assert plain("x" * 50, longest=20) == "x" * 20 + "…"


def test_a_decision_log_without_file_writes_to_the_log_alone() -> None:
    told: list[Any] = []
    decisions = DecisionLog(lambda *what: told.append(what), None)
    decisions.write(DECISION)
    decisions.close()

    assert told == [(DECISION, CONTRACT)]
