import io
import json
import re
import sys

import pytest

from maillinkd.cli import output

HOSTILE = "a\x1b[31mred\x07\n\u202eb\u2028\x9b\ud800"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_json_line_begins_with_its_version_and_loses_nothing() -> None:
    line = output.json_line({"text": HOSTILE, "subject": "Fläche 名"})

    assert line.startswith('{"v":1,"text":"a\\u001b[31mred')
    assert json.loads(line) == {"v": 1, "text": HOSTILE, "subject": "Fläche 名"}
    assert "Fläche 名" in line
    assert line.isprintable()


def test_a_plain_table_is_aligned_and_as_wide_as_it_must_be(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("#id", "subject"), [(1, "short"), (12, "x" * 200)], nothing="nothing")

    assert capsys.readouterr().out == f"id  subject\n 1  short\n12  {'x' * 200}\n"


def test_a_table_on_a_terminal_fits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("TERM", "xterm")

    output.table(("#id", "subject"), [(1, "[bold]short"), (12, "x" * 200)], nothing="nothing")

    lines = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue()).splitlines()
    assert max(map(len, lines)) <= 40
    assert "[bold]short" in lines[1]


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_nothing_that_mail_says_steers_the_terminal(monkeypatch: pytest.MonkeyPatch, on_a_terminal: bool) -> None:
    stream = Terminal() if on_a_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")

    output.table(("subject",), [(HOSTILE,)], nothing="nothing")
    output.pairs([("subject", HOSTILE)])
    output.say(output.escaped(HOSTILE))

    assert [line for line in stream.getvalue().split("\n") if not line.isprintable()] == []
    assert stream.getvalue().count("\n") == 4


def test_an_empty_table_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("id",), [], nothing="no threads")

    assert capsys.readouterr().out == "no threads\n"


def test_pairs_leave_out_what_has_no_value(capsys: pytest.CaptureFixture[str]) -> None:
    output.pairs([("slot", None), ("persons", ("person:3", "person:4")), ("flags", ())])

    assert capsys.readouterr().out == "persons  person:3 person:4\n"


def test_a_paragraph_is_one_line_elsewhere_and_wrapped_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output.paragraph("one two three four five six", "1  ", "   ")
    assert capsys.readouterr().out == "1  one two three four five six\n"

    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "24")
    output.paragraph("one two three four five\x1b six", "1  ", "   ")

    assert terminal.getvalue() == "1  one two three four\n   five\\x1b six\n"
