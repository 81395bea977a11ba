import io
import sys

import pytest
from structlog.testing import capture_logs

from maillinkd.cli import progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")

    with progress.progress("importing mail", "messages", 2_000) as advance:
        advance(1_500)

    assert "importing mail" in terminal.getvalue()
    assert "1,500 of 2,000 messages" in terminal.getvalue()


def test_elsewhere_there_is_a_log_line_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 5.0, 6.0, 11.0])
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))

    with capture_logs() as logged, progress.progress("importing mail", "messages", 1_000) as advance:
        for _ in range(4):
            advance(100)

    assert [(line["event"], line["messages"], line["of"]) for line in logged] == [
        ("importing mail", 200, 1_000),
        ("importing mail", 400, 1_000),
    ]
