"""The workshop is tidy: what stands where, and that nothing of one machine or one index has crept in."""

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.main import get_command
from typer.testing import CliRunner

from maillinkd.cli.root import app

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "maillinkd"

WITHOUT_A_TEST_FILE = {
    "__main__.py": "calls cli.main; every test of the command line goes through it",
    "cli/exit_codes.py": "constants",
    "mail/delivery.py": "values",
    "smtp/config.py": "values",
    "store/migrations/env.py": "tests/store/test_upgrade.py runs it",
}

FOREIGN = (
    r"(?<![\w.])/" + r"(?:work|root|home/\w+|Users/\w+)/",  # a machine's paths
    r"files\.python"
    + r"hosted\.org|\bpypi"
    + r"\.org|\btest\.pypi",  # an index's address: whoever installs has his own
    r"--(?:extra-)?index" + r"-url|--find" + r"-links",
)


def ours() -> list[Path]:
    """Every file that belongs to the repository: what .gitignore names is left out, without asking git."""
    ignored = {line.rstrip("/") for line in (ROOT / ".gitignore").read_text().splitlines()} | {".git"}

    def belongs(path: Path) -> bool:
        return not any(path.match(pattern) for pattern in ignored)

    found = []
    for directory, names, files in os.walk(ROOT):
        names[:] = [name for name in names if belongs(Path(directory, name))]
        found += [Path(directory, name) for name in files if belongs(Path(directory, name))]
    return found


def test_the_source_root_is_no_package() -> None:
    """A package named `daemon` would shadow python-daemon's module."""
    assert not (ROOT / "daemon" / "__init__.py").exists()


def test_the_package_itself_is_one_sentence() -> None:
    """Importing it costs nothing: `maillinkd --version` need not wait for SQL."""
    text = (PACKAGE / "__init__.py").read_text()

    assert "import" not in text
    assert text.count("\n") == 1


def test_every_source_file_has_its_test_file() -> None:
    """tests/ mirrors the package; what has none says why."""
    sources = [path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")]
    without = {
        str(source)
        for source in sources
        if source.name != "__init__.py"
        and "versions" not in source.parts
        and not (ROOT / "tests" / source.parent / f"test_{source.name}").exists()
    }

    assert without == set(WITHOUT_A_TEST_FILE) & {str(source) for source in sources}


@pytest.mark.parametrize("pattern", FOREIGN)
def test_no_file_names_a_machine_or_a_package_index(pattern: str) -> None:
    foreign = re.compile(pattern)
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in ours()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), start=1)
        if foreign.search(line) and path.name != "Makefile"  # whose `lock` tells uv to leave them out
    ]

    assert named == []


def test_the_lock_pins_every_dependency_within_its_range() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        Requirement(text)
        for group in (
            project["project"]["dependencies"],
            *project["project"]["optional-dependencies"].values(),
            *project["dependency-groups"].values(),
            project["build-system"]["requires"],
        )
        for text in group
    ]
    lock = (ROOT / "requirements.lock").read_text()
    pinned = dict(re.findall(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==(\S+)", lock, re.MULTILINE))

    assert [str(w) for w in wanted if not w.specifier.contains(pinned.get(canonicalize_name(w.name), "0"))] == []


def test_the_lock_holds_a_hash_for_every_version() -> None:
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / "requirements.lock").read_text(), flags=re.MULTILINE)

    assert [entry.split()[0] for entry in entries if "==" in entry and "--hash=sha256:" not in entry] == []


def test_the_gate_runs_what_make_test_runs() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert "CI=true make test" in script.read_text()


@pytest.mark.parametrize("command", ["make run", "make test"])
def test_the_readme_shows_both_commands(command: str) -> None:
    assert command in (ROOT / "README.md").read_text()


def commands() -> dict[str, str]:
    """Every command of the command line by its words ("items list"), with its `--help`."""
    runner = CliRunner()
    found = {}

    def walk(node: Any, words: tuple[str, ...]) -> None:
        for name, child in getattr(node, "commands", {}).items():
            walk(child, (*words, name))
        if not hasattr(node, "commands"):
            result = runner.invoke(app, [*words, "--help"], terminal_width=200)
            found[" ".join(words)] = result.output

    walk(get_command(app), ())
    return found


HELP = commands()


def test_the_commands_that_were_promised_are_there() -> None:
    """contract.md, Commands; as far as they are built."""
    promised = """
        init, run, sync, check, demo, import mail, import items, items list, items show, items set, threads list,
        threads show, link, unlink, explain, simulate, verify, decide, decisions, quarantine list, quarantine show,
        quarantine release, quarantine drop, status, smartbcc address, db upgrade, db check
    """

    assert {" ".join(words.split()) for words in promised.split(",")} - HELP.keys() == set()


@pytest.mark.parametrize("command", HELP)
def test_every_command_has_help_with_an_example(command: str) -> None:
    description, example, lines = HELP[command].partition("Example")

    assert len(description.splitlines()) > 3
    assert example
    assert re.search(rf"maillinkd (?:--\S+ (?:\S+ )?)*{re.escape(command)}\b", lines)


def test_every_command_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    named = r"(?:`|maillinkd (?:--\S+ (?:\S+ )?)*)"

    assert [command for command in HELP if not re.search(rf"{named}{re.escape(command)}\b", readme)] == []


def test_every_decision_has_its_number_once() -> None:
    numbers = sorted(path.name[:4] for path in (ROOT / "docs" / "decisions").glob("*.md"))

    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]
