"""The conformance cases through the pure functions alone: no database, and threads found the naive way."""

import json
from pathlib import Path
from typing import Any

import pytest

from linker.world import Refused, World

CASES = sorted((Path(__file__).parent.parent / "conformance" / "linking").glob("*.json"))


def play(case: dict[str, Any]) -> World:
    world = World(case)
    world.learn(case["items"])
    for step in case["steps"]:
        ((_, given),) = step.items()
        if isinstance(given, dict) and given.get("refused"):
            before = world.shown()
            with pytest.raises(Refused):
                world.step(step)
            assert before == world.shown()
        else:
            world.step(step)
    return world


def compared(thread: dict[str, Any]) -> dict[str, Any]:
    as_sets = ("persons", "organizations", "candidates", "flags")
    return {key: set(value) if key in as_sets else value for key, value in thread.items()}


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_pure_functions_decide_as_the_case_says(path: Path) -> None:
    case = json.loads(path.read_text())
    world = play(case)
    shown = world.shown()

    assert len(shown) == len(case["expect"])
    for thread in case["expect"]:
        wanted = compared(thread) | {"messages": sorted(thread["messages"])}
        place = ("owner", "channel", "messages")
        (actual,) = [each for each in shown if all(each[key] == wanted[key] for key in place)]
        assert wanted == {key: actual[key] for key in wanted}
    assert [(each["message"], each["reason"]) for each in case.get("quarantine", [])] == world.quarantine


def test_there_are_cases() -> None:
    assert len(CASES) > 60
