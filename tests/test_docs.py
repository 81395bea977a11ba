"""What the documents say is so: reasons, flags, switches, settings, commands, files, links and examples."""

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from maillinkd import demo
from maillinkd.cli import exit_codes
from maillinkd.cli.root import app
from maillinkd.directory.lines import read_line
from maillinkd.linker.decision import Flag, Reason
from maillinkd.linker.policy import PRESETS, SWITCHES, Policy
from maillinkd.logs import CONSTANT, DECISION_FIELDS
from maillinkd.settings import Settings, load
from maillinkd.settings.root import model_at
from maillinkd.store.quarantine import UNAUTHENTICATED, UNKNOWN_SENDER, UNREADABLE

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "daemon" / "maillinkd"
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
README, LINKING, OPERATIONS = ROOT / "README.md", ROOT / "docs" / "linking.md", ROOT / "docs" / "operations.md"

Row = list[str]

every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def table(document: Path, first: str, second: str) -> list[Row]:
    """The rows of the first table whose head begins with these two cells; cells as they stand."""
    rows: list[Row] | None = None
    for line in document.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")] if line.startswith("|") else []
        if rows is None and cells[:2] == [first, second]:
            rows = []
        elif rows is not None and not cells:
            return rows
        elif rows is not None and not set(line) <= set("|-: "):
            rows.append(cells)
    raise LookupError(f"{document.name} has no table that begins with {first!r}, {second!r}")


def words(cell: str) -> list[str]:
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", cell)


def word(cell: str) -> str:
    (found,) = words(cell)
    return found


def blocks(document: Path, language: str) -> list[str]:
    """The fenced blocks of a language, without the indentation that they have in lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```$", document.read_text(), re.MULTILINE | re.DOTALL)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) for indent, text in found]


def prose(document: Path) -> str:
    """The text without fenced blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)


# --- Reasons, flags, switches ---------------------------------------------------------------------------------------


def test_readme_says_of_every_reason_what_it_means_and_what_to_do() -> None:
    rows = table(README, "reason", "what it means")

    assert list(Reason) == [word(row[0]) for row in rows]
    assert [row[0] for row in rows if len(row) != 3 or not all(row)] == []


def test_linking_has_every_reason_in_the_order_in_which_the_rows_are_asked() -> None:
    rows = table(LINKING, "row", "reason")

    assert list(Reason) == [word(row[1]) for row in rows]
    assert [*map(str, range(1, 15)), "–"] == [row[0] for row in rows]


@pytest.mark.parametrize(("document", "second"), [(README, "means"), (LINKING, "stands on")])
def test_every_flag_is_explained(document: Path, second: str) -> None:
    assert list(Flag) == [word(row[0]) for row in table(document, "flag", second)]


def test_readme_explains_every_reason_of_quarantine() -> None:
    text = README.read_text().partition("Mail in quarantine has reasons of its own")[2]
    explained = {word(line.split(" | ")[0]) for line in text.splitlines() if line.startswith("| `")}

    assert {UNKNOWN_SENDER, UNAUTHENTICATED, UNREADABLE} <= explained


def test_every_switch_stands_in_linking_with_the_values_of_both_presets() -> None:
    expected = {}
    for switch in SWITCHES:
        recommended = json.dumps(getattr(Policy(), switch))
        strict = json.dumps(PRESETS["pipedrive-strict"].get(switch, getattr(Policy(), switch)))
        expected[switch] = (recommended, strict)

    actual = {}
    for row in table(LINKING, "switch of `[policy]`", "values"):
        strict_value = re.search(r"`([^`]+)` \*strict\*", row[1])
        recommended = words(row[1])[0]
        actual[word(row[0])] = (recommended, strict_value[1] if strict_value else recommended)

    assert expected == actual


CASES = {
    path.stem: json.loads(path.read_text())
    for directory in ("conformance", "cases")
    for path in sorted((ROOT / "tests" / directory / "linking").glob("*.json"))
}

NOT_IN_CASES = {
    "L1": "there is no command that does it",
    "L12": "a case compares candidates as a set: tests/store/test_views.py",
    "L23": "tests/cli/test_explain.py",
    "L24": "tests/ingest/test_verify.py, and every test that ends with a database",
}


def reasons_of(case: str) -> set[str]:
    """The reasons that a case expects at its end."""
    return {thread.get("reason") for thread in CASES[case]["expect"]}


def set_in(case: Any, section: str) -> dict[str, Any]:
    """What a case sets in a table of the configuration, at its beginning or later."""
    later = [step["configured"].get(section, {}) for step in case["steps"] if "configured" in step]
    return {name: value for table in (case.get(section, {}), *later) for name, value in table.items()}


def test_every_rule_has_a_case_and_a_sentence() -> None:
    """Cases name the rules that they are about: L3, L16a, row 12."""
    named = {rule for case in CASES.values() for rule in case["rules"]}
    numbers = {*map(int, re.findall(r"\bL([1-9][0-9]?) ", LINKING.read_text()))}

    assert numbers == set(range(1, max(numbers) + 1))
    assert {f"L{number}" for number in numbers} - {rule.rstrip("abc") for rule in named} == set(NOT_IN_CASES)
    assert [row for row in range(1, 15) if f"row {row}" not in named] == []


def test_every_reason_and_every_flag_of_a_thread_is_what_a_case_expects() -> None:
    threads = [thread for case in CASES.values() for thread in case["expect"]]

    assert set(Reason) - {thread.get("reason") for thread in threads} == set()
    assert set(Flag) - {flag for thread in threads for flag in thread.get("flags", ())} == {Flag.PROVISIONAL}


def test_every_switch_has_a_case_that_turns_it() -> None:
    turned = {name for case in CASES.values() for name, value in set_in(case, "policy").items()
              if value != getattr(Policy(), name, value)}  # fmt: skip
    presets = {set_in(case, "policy").get("preset") for case in CASES.values()}

    assert set(SWITCHES) - turned == set()
    assert set(PRESETS) - presets <= {"recommended"}
    assert any(set_in(case, "smart_bcc").get("forwarded") == "off" for case in CASES.values())


def test_the_cases_that_are_named_for_a_reason_expect_it() -> None:
    named = {word(row[1]): words(row[3]) for row in table(LINKING, "row", "reason")}
    wrong = [
        (reason, case) for reason, cases in named.items() for case in cases or ["-"] if reason not in reasons_of(case)
    ]

    assert wrong == []


def test_the_tests_that_are_named_for_a_switch_know_it() -> None:
    """By its name, or by the number of the rule that the row names."""
    unknown = []
    for row in table(LINKING, "switch of `[policy]`", "values"):
        named = [(ROOT / name).read_text() if "/" in name else json.dumps(CASES[name]) for name in words(row[3])]
        known_by = [word(row[0]), *re.findall(r"\b[LT][0-9]+\b", row[2])]
        if not any(name in text for text in named for name in known_by):
            unknown.append(row[0])

    assert unknown == []


def test_every_rule_that_the_code_cites_can_be_looked_up() -> None:
    linking = LINKING.read_text()
    traps = (ROOT / "docs" / "development.md").read_text()
    unknown = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line in path.read_text().splitlines():
            cited = re.findall(r"(?<![\w.-])([LT][1-9][0-9]?)(?![\w-])", line)
            unknown += [(path.name, rule) for rule in cited if not re.search(rf"\b{rule}\b", linking)]
            if "traps.md" in line:
                cited = re.findall(r"\b([IS][1-9][0-9]?)\b", line)
                unknown += [(path.name, trap) for trap in cited if not re.search(rf"\b{trap}\b", traps)]

    assert unknown == []


# --- Settings -------------------------------------------------------------------------------------------------------


@every_document
def test_settings_that_are_named_exist(document: Path) -> None:
    """`section.key` between backticks, where the section is one of the configuration's."""
    unknown = []
    for section, key in re.findall(r"`([a-z_]+)\.([a-z_]+)`", prose(document)):
        if section not in Settings.model_fields or key in ("toml", "py"):
            continue
        model = model_at((section,))
        if model is None or key not in model.model_fields:
            unknown.append(f"{section}.{key}")

    assert unknown == []


@pytest.mark.parametrize("document", [README, OPERATIONS], ids=["README.md", "operations.md"])
def test_configurations_in_the_documents_load(document: Path, tmp_path: Path) -> None:
    """Together, as the text puts them together: the first is the main file, the others lie in conf.d."""
    main, *others = blocks(document, "toml")
    (tmp_path / "maillinkd.toml").write_text(main)
    (tmp_path / "conf.d").mkdir()
    for number, text in enumerate(others):
        (tmp_path / "conf.d" / f"{number}.toml").write_text(text)

    settings = load(tmp_path / "maillinkd.toml", environ={})

    assert {section for text in (main, *others) for section in tomllib.loads(text)} <= settings.model_fields_set


# --- Commands -------------------------------------------------------------------------------------------------------


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its whole name."""
    below = getattr(command, "commands", None)  # a group has them
    if below is None:
        yield name, command
        return
    for part, each in below.items():
        yield from commands(each, f"{name} {part}".strip())


COMMANDS = dict(commands(typer.main.get_command(app)))


def described() -> list[tuple[str, str]]:
    """(name, the line of README's table) of each command there."""
    found = []
    for row in table(README, "command", "does"):
        line = word(row[0])
        names = [name for name in COMMANDS if line == name or line.startswith(f"{name} ")]
        found.append((max(names, key=len, default="?"), line))
    return found


def test_readme_has_a_line_for_every_command_and_no_other() -> None:
    assert sorted(COMMANDS) == sorted({name for name, _ in described()})


def test_options_in_readme_exist() -> None:
    unknown = []
    for name, line in described():
        known = {option for each in COMMANDS[name].params for option in each.opts}
        unknown += [f"{name} {option}" for option in re.findall(r"--[a-z-]+", line) if option not in known]

    assert unknown == []


def test_readme_has_every_exit_code() -> None:
    codes = {code for name, code in vars(exit_codes).items() if name.isupper() and isinstance(code, int)}

    assert codes == {int(row[0]) for row in table(README, "exit code", "means")} | {exit_codes.INTERRUPTED}


# --- Examples -------------------------------------------------------------------------------------------------------


def test_item_lines_of_readme_are_read() -> None:
    (block,) = blocks(README, "json")

    assert [f"{json.loads(line)['kind']}:{json.loads(line)['id']}" for line in block.splitlines()] == [
        str(read_line(line).ref) for line in block.splitlines()
    ]


def test_the_decision_line_in_operations_has_the_fields_that_are_logged_in_their_order() -> None:
    (line,) = [each for each in map(json.loads, blocks(OPERATIONS, "json")) if each.get("event") == "link"]

    assert list(DECISION_FIELDS) == list(line)
    assert {name: line[name] for name in CONSTANT} == CONSTANT


def test_the_demo_has_the_mail_that_readme_promises() -> None:
    mails = sum(len(demo.read_mbox(path)) for path in demo.mail_files().values())

    assert f"a mailbox of {mails} invented mails" in README.read_text()


def test_python_in_readme_is_python() -> None:
    scripts = re.findall(r"<<'END'\n(.*?)^END$", README.read_text(), re.MULTILINE | re.DOTALL)

    assert [bool(compile(script, "README.md", "exec")) for script in scripts] == [True, True]


# --- Files and links ------------------------------------------------------------------------------------------------


def anchors(document: Path) -> set[str]:
    """The headings as links name them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_document
def test_links_lead_somewhere(document: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)

    assert broken == []


FILE = re.compile(r"(?:\.?[\w@-]+/)*[\w@.-]+\.(?:py|md|toml|json|jsonl|lock|service|socket|conf|sh)")
ELSEWHERE = {"maillinkd.toml", "items.jsonl", "maillinkd@NAME.service", "uv.lock", "ingest.py"}
"""An admin's own, and what a decision was against."""
CITED = {"contract.md", "threading.md", "reliability.md", "traps.md"}
"""What comments cite; docs/development.md says where it is to be found."""


@every_document
def test_files_that_are_named_exist(document: Path) -> None:
    """Between backticks; from the root, the documents, the package, or by a name that is there once."""
    unknown = []
    for name in re.findall(r"`([^`\n]+)`", prose(document)):
        if not FILE.fullmatch(name) or name in ELSEWHERE | CITED:
            continue
        if any((start / name).is_file() for start in (ROOT, ROOT / "docs", PACKAGE)):
            continue
        if "/" in name or not [*PACKAGE.rglob(name), *(ROOT / "systemd").rglob(name)]:
            unknown.append(name)

    assert unknown == []
