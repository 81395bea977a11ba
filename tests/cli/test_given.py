"""The options that all commands share."""

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import pytest
import typer

from cli.shell import Shell, run
from maillinkd.cli.given import Given, command, group


def play(app: typer.Typer, *arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        typer.main.get_command(app).main(list(arguments), prog_name="test")
    return int(end.value.code or 0)


@pytest.fixture
def seen() -> list[tuple[Given, str]]:
    return []


@pytest.fixture
def app(seen: list[tuple[Given, str]]) -> typer.Typer:
    """A group with a command in it, and a second one, so that the group is one."""
    app = group("test", "Tests.", "test greet anna")

    async def greet(given: Given, name: Annotated[str, typer.Argument()]) -> int:
        """Greets somebody."""
        await asyncio.sleep(0)
        seen.append((given, name))
        return 3

    def interrupted(given: Given) -> None:
        raise KeyboardInterrupt

    def unread(given: Given) -> None:
        raise BrokenPipeError

    command(app, "greet", "test greet anna")(greet)
    command(app, "interrupted")(interrupted)
    command(app, "unread")(unread)
    return app


@pytest.mark.parametrize(
    "arguments",
    [
        ("--config", "a.toml", "--json", "greet", "anna"),
        ("greet", "anna", "--config", "a.toml", "--json"),
        ("--config", "a.toml", "greet", "--json", "anna"),
        ("--config", "b.toml", "greet", "anna", "--json", "--config", "a.toml"),
    ],
)
def test_shared_options_may_stand_before_and_after_the_command(
    app: typer.Typer, seen: list[tuple[Given, str]], arguments: tuple[str, ...]
) -> None:
    """What is said last counts."""
    play(app, *arguments)

    assert seen == [(Given(Path("a.toml"), json=True), "anna")]


def test_what_a_command_returns_is_the_exit_code(app: typer.Typer) -> None:
    assert play(app, "greet", "anna") == 3


def test_ctrl_c_ends_a_command_without_a_traceback(app: typer.Typer) -> None:
    assert play(app, "interrupted") == 130


def test_a_reader_that_is_gone_ends_a_command_quietly(app: typer.Typer, monkeypatch: pytest.MonkeyPatch) -> None:
    with open("/dev/null", "w") as nobody:
        monkeypatch.setattr(sys, "stdout", nobody)

        assert play(app, "unread") == 0


def test_shared_options_are_accepted_at_every_level(shell: Shell) -> None:
    config = str(shell.config)

    assert {
        run([*arguments]).code
        for arguments in (
            ["--json", "--config", config, "db", "check"],
            ["db", "--config", config, "check", "--json"],
            ["db", "check", "--json", "--config", config],
        )
    } == {0}
