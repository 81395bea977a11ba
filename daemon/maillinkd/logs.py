"""What the daemon says, one line an event: for people on a terminal, for machines elsewhere.

`configure` is called once at start (and again on SIGHUP). Whatever is said by structlog, and by libraries through
`logging`, comes out escaped: mail is written by strangers, and it must neither forge a line nor steer a terminal.
The form of decision lines is promised by contract.md, "Decision line".
"""

import errno
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["auto", "console", "json", "journal"]

MAX_STRING = 1_024
"""Characters of a string that are logged; a message-id has 996 at most (threading.md T4)."""
MAX_TRACEBACK = 20_000

QUIET_LIBRARIES = ("mail.log", "aioimaplib", "aioimaplib.aioimaplib", "asyncio", "sqlalchemy", "alembic")
"""Held at WARNING even if they set a level themselves: below it aiosmtpd logs whole DATA lines and aioimaplib
passwords (traps.md I15, S21)."""

SECRET = re.compile(r"passw|secret|token|authorization|credential|cookie|api_?key", re.IGNORECASE)

# C0, DEL, C1; the line separators; what reverses or hides text (Unicode TR 36, 3.2); halves of surrogate pairs.
UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")

DECISION_FIELDS = (
    "v",
    "event",
    "timestamp",
    "level",
    "decision",
    "thread",
    "owner",
    "channel",
    "mailbox",
    "message_id",
    "trigger",
    "outcome",
    "reason",
    "slot",
    "slot_before",
    "persons",
    "organizations",
    "candidates",
    "flags",
    "actor",
    "policy",
    "rule_version",
)
"""The decision line, in the order of contract.md. The first, second and fourth are the same for all."""
FURTHER_FIELDS = ("batch", "lost", "undoes")
"""There where they apply: the number that `undo` takes back; what L21 dropped from the slot in a merge; the decision
that an undo took back."""
CONSTANT: Mapping[str, object] = {"v": 1, "event": "link", "level": "info"}

PLAIN = frozenset({str, int, type(None)})
"""What orjson and json write alike, but for text that UTF-8 cannot hold and numbers of more than 64 bits, on which
orjson raises."""

# syslog(3)
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
COLOURS = {"debug": "2", "warning": "33", "error": "31", "critical": "31;1"}
OUTCOME_COLOURS = {"linked": "32", "ambiguous": "33", "unlinked": "31", "unchanged": "2"}


def timestamp(time: datetime) -> str:
    """RFC 3339 in UTC with a Z, to the millisecond. Takes an aware time."""
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# --- Rendering ------------------------------------------------------------------------------------------------------


def json_line(fields: Mapping[str, object], longest: int = MAX_STRING) -> str:
    """One line of JSON in the order of the fields, strings cut at `longest`, nothing in it that steers a terminal."""
    if (line := _plain_line(fields, longest)) is not None:
        return line
    text = _ENCODER.encode(fields)
    if len(text) > longest:  # else no string in it can be longer
        text = _ENCODER.encode(_cut(fields, longest))
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _plain_line(fields: Mapping[str, object], longest: int) -> str | None:
    """`json_line` of what is short, ASCII and made of text, whole numbers and lists of such; None of all else."""
    for value in fields.values():
        kind = type(value)
        if kind not in PLAIN and not (type(value) is list and PLAIN.issuperset(map(type, value))):
            return None
    try:
        line = orjson.dumps(fields)
    except orjson.JSONEncodeError:
        return None
    return line.decode() if len(line) <= longest and line.isascii() and b"\x7f" not in line else None


def decision_line(fields: Mapping[str, object]) -> str:
    """The decision line of contract.md as JSON, without a line end.

    `fields` holds DECISION_FIELDS (`timestamp` as text or an aware datetime), with or without the constant ones.
    FURTHER_FIELDS may be among them. Raises ValueError if it lacks one or holds another: what is promised is neither
    more nor less.
    """
    known = {**fields, **CONSTANT}
    if tuple(known) == DECISION_FIELDS:  # nearly always
        return json_line(known)
    if wrong := known.keys() - set(FURTHER_FIELDS) ^ set(DECISION_FIELDS):
        raise ValueError(f"not the fields of a decision: {sorted(wrong)}")
    return json_line({name: known[name] for name in (*DECISION_FIELDS, *FURTHER_FIELDS) if name in known})


def decision_text(fields: Mapping[str, Any], coloured: bool = False) -> str:
    """The decision for a person: time, outcome, thread, slot or candidates, reason, persons, message id, flags."""
    items = [fields["slot"]] if fields["slot"] else [f"{item}?" for item in fields["candidates"]]
    time, outcome, *rest = (
        plain(str(part))
        for part in (
            _clock(fields["timestamp"]),
            f"{fields['outcome']:<9}",
            f"thread {fields['thread']:<5}",
            f"{' '.join(items) or '-':<12}",
            f"{fields['reason']:<28}",
            f"{' '.join(fields['persons']) or '-':<10}",
            fields["message_id"] or "-",
            *(f"[{flag}]" for flag in fields["flags"]),
        )
    )
    if coloured:
        outcome = _painted(outcome, OUTCOME_COLOURS.get(fields["outcome"]))
    return "  ".join((time, outcome, *rest))


def plain(text: str, longest: int = MAX_STRING) -> str:
    """The text on one line, with what could steer a terminal written as an escape, cut at `longest` characters."""
    return UNSAFE.sub(_escaped, _cut(text, longest))


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape", "surrogatepass").decode("ascii")


def _cut(value: Any, longest: int) -> Any:
    match value:
        case str():
            return value if len(value) <= longest else value[:longest] + "…"
        case Mapping():
            return {_cut(str(key), longest): _cut(part, longest) for key, part in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_cut(part, longest) for part in value]
    return value


def _as_json(value: object) -> object:
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    return timestamp(value) if isinstance(value, datetime) and value.tzinfo else _cut(str(value), MAX_STRING)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_as_json)


def _clock(time: object) -> str:
    """The time of day where the reader sits."""
    known = time if isinstance(time, datetime) else datetime.fromisoformat(str(time))
    return known.astimezone().strftime("%H:%M:%S")


def _painted(text: str, colour: str | None) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def _words(fields: Mapping[str, object]) -> str:
    """`key=value`, values in quotes where they would be misread."""
    return " ".join(f"{plain(key)}={_word(value)}" for key, value in fields.items())


def _word(value: object) -> str:
    text = value if isinstance(value, str) else json_line({"": value})[4:-1]
    if isinstance(value, str) and (not text or re.search(r"[\s\"=]", text)):
        return plain(f'"{text.replace(chr(34), chr(92) + chr(34))}"')
    return plain(text)


def _render_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    known = {name: event.pop(name, None) for name in ("timestamp", "level", "event")}
    traceback = event.pop("exception", None)
    line = json_line({**known, **event})
    if traceback is None:
        return line
    return f"{line[:-1]},{json_line({'exception': traceback}, MAX_TRACEBACK)[1:]}"


def _text_lines(event: EventDict) -> list[str]:
    """The event and its fields on one line, then the lines of a traceback."""
    traceback = str(event.pop("exception", ""))[-MAX_TRACEBACK:]
    first = f"{plain(str(event.pop('event', '')))} {_words(event)}".rstrip()
    return [first, *(f"    {plain(line)}" for line in traceback.splitlines())]


def _render_journal(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    """sd-daemon(3): each line begins with its priority; journald has the time."""
    event.pop("timestamp", None)
    priority = PRIORITIES.get(event.pop("level"), PRIORITIES["info"])
    return "\n".join(f"<{priority}>{line}" for line in _text_lines(event))


def _render_console(coloured: bool) -> Processor:
    def render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
        time, level = _clock(event.pop("timestamp")), event.pop("level")
        word = f"{level:<9}"
        first, *rest = _text_lines(event)
        return "\n".join([f"{time}  {_painted(word, COLOURS.get(level)) if coloured else word}  {first}", *rest])

    return render


def drop_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Leaves out every field whose name speaks of a secret, however deep."""
    return {key: _without_secrets(value) for key, value in event.items() if not SECRET.search(str(key))}


def _without_secrets(value: Any) -> Any:
    match value:
        case Mapping():
            return {key: _without_secrets(part) for key, part in value.items() if not SECRET.search(str(key))}
        case list() | tuple():
            return [_without_secrets(part) for part in value]
    return value


# --- Where it goes --------------------------------------------------------------------------------------------------


def is_journal(stream: IO[str], environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the stream is the one that systemd connected to the journal: $JOURNAL_STREAM is its "device:inode"."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # no file at all, or closed
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def resolved(format: Format, stream: IO[str], environ: Mapping[str, str] = os.environ) -> Format:
    """What `auto` means for this stream: journal, console on a terminal, else json."""
    if format != "auto":
        return format
    if is_journal(stream, environ):
        return "journal"
    return "console" if stream.isatty() else "json"


class LineWriter:
    """Writes lines to a stream, whole and at once. structlog calls the method of the level."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Raises OSError if the line could not be written."""
        self._stream.write(f"{line}\n")
        self._stream.flush()

    def msg(self, line: str) -> None:
        """As `write`, but a log that cannot be written (a full disk, a reader that is gone) stops nothing."""
        try:
            self.write(line)
        except (OSError, ValueError):  # ValueError: the stream is closed
            return  # there is nowhere left to say it

    info = warning = error = critical = msg


class DecisionFile:
    """The `decisions` file: appended to, line by line, and opened anew when it was rotated away.

    A line is one write in append mode, so several processes may share the file. A new one is 0640 less the umask.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file, self._identity = self._open()
        self._torn = False

    def write(self, line: str) -> None:
        """Appends the line; it is with the operating system on return. Raises OSError."""
        if not self._is_current():
            os.close(self._file)
            self._file, self._identity = self._open()
        rest = f"\n{line}\n".encode() if self._torn else f"{line}\n".encode()
        self._torn = True  # until the end is written, the next line must not stick to this one
        while rest:
            rest = rest[os.write(self._file, rest) :]
        self._torn = False

    def close(self) -> None:
        os.close(self._file)

    def _open(self) -> tuple[int, tuple[int, int]]:
        """The file, and its device and inode."""
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        status = os.fstat(file)
        return file, (status.st_dev, status.st_ino)

    def _is_current(self) -> bool:
        try:
            found = os.stat(self._path)  # for each line; Path.stat takes twice as long
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == self._identity


def require_decisions_file(path: Path) -> None:
    """Raises OSError if a line could not be written there. Makes no file."""
    if path.exists():
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC))
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


class DecisionLog:
    """Where decisions are told: in the log, and alone in the `decisions` file if there is one."""

    def __init__(self, log: Callable[[Mapping[str, Any], str], None], file: DecisionFile | None) -> None:
        """`log` is given the fields of a decision and its line."""
        self._log = log
        self._file = file

    def write(self, fields: Mapping[str, Any]) -> None:
        """Tells one decision, flushed on return. `fields` as decision_line takes them.

        Raises OSError if log or file could not be written: then the decision counts as not logged, and is told again.
        """
        line = decision_line(fields)
        if self._file is not None:
            self._file.write(line)
        self._log(fields, line)

    def close(self) -> None:
        """Closes the `decisions` file; the log's stream stays open."""
        if self._file is not None:
            self._file.close()


class _Library(logging.Handler):
    """Hands what libraries say through `logging` to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        # The level is asked here as well: a library may set its own at import, after us.
        if record.levelno < logging.WARNING:
            return
        level = "critical" if record.levelno >= logging.CRITICAL else record.levelname.lower()
        if level not in PRIORITIES:
            level = "error" if record.levelno >= logging.ERROR else "warning"
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001  # a library's wrong format is not our failure
            text = str(record.msg)
        getattr(structlog.get_logger(), level)(text, logger=record.name, exc_info=record.exc_info)


def configure(
    format: Format = "auto", stream: IO[str] | None = None, decisions_file: Path | None = None
) -> DecisionLog:
    """Sets up structlog and `logging` to write to `stream` (standard error) and opens the `decisions` file.

    Returns where to tell decisions. May be called again; the former DecisionLog is the caller's to close. Raises
    OSError if the `decisions` file cannot be opened; then nothing is changed.
    """
    stream = stream or sys.stderr
    file = DecisionFile(decisions_file) if decisions_file else None
    kind = resolved(format, stream)
    coloured = kind == "console" and stream.isatty() and not os.environ.get("NO_COLOR")
    render: dict[str, Processor] = {
        "json": _render_json,
        "journal": _render_journal,
        "console": _render_console(coloured),
    }
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            drop_secrets,
            structlog.processors.format_exc_info,
            _stamp,
            render[kind],
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=lambda *_: LineWriter(stream),
        cache_logger_on_first_use=False,  # SIGHUP may change all this
    )
    _route_libraries()
    return DecisionLog(_decision_writer(kind, LineWriter(stream), coloured), file)


def _stamp(_logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["timestamp"] = timestamp(datetime.now(UTC))
    return event


def _decision_writer(kind: Format, writer: LineWriter, coloured: bool) -> Callable[[Mapping[str, Any], str], None]:
    match kind:
        case "console":
            return lambda fields, _line: writer.write(decision_text(fields, coloured))
        case "journal":
            return lambda _fields, line: writer.write(f"<{PRIORITIES['info']}>{line}")
        case _:
            return lambda _fields, line: writer.write(line)


def _route_libraries() -> None:
    root = logging.getLogger()
    root.handlers[:] = [handler for handler in root.handlers if not isinstance(handler, _Library)]
    root.addHandler(_Library())
    root.setLevel(logging.WARNING)
    for name in QUIET_LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
