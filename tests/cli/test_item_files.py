from pathlib import Path

import pytest
import typer

from maillinkd.cli.item_files import kinds, read
from maillinkd.directory.item import ItemKind


def test_wrong_lines_are_named_by_file_and_number_and_the_others_go_in(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"kind":"deal","id":"1"}\n'
        b"\n"
        b"{oops}\n"
        b'{"kind":"boat","id":"2"}\n'
        b'{"kind":"deal","id":"3","addresses":[]}\r\n'
        b'{"kind":"deal","id":"4"}'
    )

    found = read([path])

    assert [str(change.ref) for change in found.changes] == ["deal:1", "deal:4"]
    assert [problem.split(": ")[:2] for problem in found.problems] == [
        [f"{path}:3", "is no JSON"],
        [f"{path}:4", "kind"],
        [f"{path}:5", "addresses"],
    ]


def test_a_file_that_cannot_be_read_stops_nothing_else(tmp_path: Path) -> None:
    good = tmp_path / "good.jsonl"
    good.write_text('{"kind":"deal","id":"1"}\n')

    found = read([tmp_path / "nowhere", good])

    assert found.problems == [f"{tmp_path / 'nowhere'}: No such file or directory"]
    assert len(found.changes) == 1


def test_kinds_are_read_whatever_their_case() -> None:
    assert kinds(["Deal", "lead"]) == {ItemKind.DEAL, ItemKind.LEAD}


def test_an_unknown_kind_is_a_wrong_usage() -> None:
    with pytest.raises(typer.BadParameter, match="--complete: expected one of deal, lead"):
        kinds(["boat"])
