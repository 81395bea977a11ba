"""What every command is given: which configuration, and whether it speaks JSON; before or after its name."""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from maillinkd.cli import exit_codes

if TYPE_CHECKING:  # reading it takes a tenth of a second, which `--help` need not wait for
    from maillinkd.settings import Settings

_Work = TypeVar("_Work", bound=Callable[..., Any])

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The configuration; else $MAILLINKD_CONFIG, else /etc/maillinkd/maillinkd.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="JSON Lines on standard output.")]


@dataclass(frozen=True, slots=True)
class Given:
    """The options that all commands share."""

    config: Path | None = None
    json: bool = False

    def with_options(self, config: Path | None, json: bool) -> "Given":
        """What is said after a command's name counts before what was said earlier."""
        return replace(self, config=config or self.config, json=json or self.json)

    def settings(self) -> "Settings":
        """Reads the configuration. Raises ConfigurationError."""
        from maillinkd.settings import load

        return load(self.config)


def group(name: str, help: str, *examples: str) -> typer.Typer:
    """A command that only has others under it."""
    app = typer.Typer(
        name=name,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        epilog=epilog(examples),
    )

    @app.callback()
    def remember(ctx: typer.Context, config: Config = None, json: Json = False) -> None:
        ctx.obj = (ctx.obj or Given()).with_options(config, json)

    remember.__doc__ = help
    return app


def command(app: typer.Typer, name: str, *examples: str) -> Callable[[_Work], _Work]:
    """Makes a command of a function, or of a coroutine, whose first parameter is what it is `Given`.

    `examples` end its `--help`. What the function returns is the exit code, None being 0.
    """

    def make(work: _Work) -> _Work:
        parameters = list(inspect.signature(work).parameters.values())[1:]

        @wraps(work)
        def run(ctx: typer.Context, *, config: Path | None, json: bool, **arguments: Any) -> None:
            given = (ctx.obj or Given()).with_options(config, json)
            raise typer.Exit(_run(work, given, arguments))

        context = inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
        shared = [
            inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, annotation=Config, default=None),
            inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, annotation=Json, default=False),
        ]
        own = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
        all_of_them = [context, *own, *shared]
        run.__signature__ = inspect.Signature(all_of_them)  # type: ignore[attr-defined]  # typer reads it
        run.__annotations__ = {each.name: each.annotation for each in all_of_them}
        app.command(name, epilog=epilog(examples))(run)
        return work

    return make


def _run(work: Callable[..., Any], given: Given, arguments: dict[str, Any]) -> int:
    """Ends quietly where somebody interrupts us, or no longer reads what we print."""
    try:
        found = work(given, **arguments)
        if inspect.iscoroutine(found):
            found = asyncio.run(found)
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to be flushed at exit
        return exit_codes.OK
    return found or exit_codes.OK


def epilog(examples: tuple[str, ...]) -> str:
    """What ends a `--help`; the \\b keeps its lines as they are."""
    title = "Example:" if len(examples) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {example}" for example in examples)])
