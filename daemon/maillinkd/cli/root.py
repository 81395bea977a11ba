"""`maillinkd` itself, and all commands under it."""

from collections.abc import Sequence
from functools import cache
from typing import Annotated, Any

import typer

from maillinkd.cli import (
    auditing,
    auth,
    database,
    decisions,
    explain,
    hand,
    importing,
    init,
    items,
    propose,
    quarantine,
    running,
    simulate,
    smartbcc,
    status,
    threads,
    users,
    verify,
)
from maillinkd.cli.given import Config, Given, Json, epilog

HELP = "Links sales mail to deals, leads and projects, and says why."

app = typer.Typer(
    name="maillinkd",
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    epilog=epilog(("maillinkd --config maillinkd.toml check --connect", "maillinkd threads list --status todo")),
)


def _say_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"maillinkd {version('maillinkd')}")
        raise typer.Exit


@app.callback()
def remember(
    ctx: typer.Context,
    config: Config = None,
    json: Json = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Say which version this is.")
    ] = False,
) -> None:
    ctx.obj = Given().with_options(config, json)


for part in (
    init, running, auth, auditing, importing, items, threads, hand, propose, explain, decisions, quarantine,
    status, users, smartbcc, simulate, verify, database
):  # fmt: skip
    part.add_to(app)


@cache
def _command() -> Any:
    return typer.main.get_command(app)


def call(arguments: Sequence[str]) -> None:
    """Runs the command. Ends with SystemExit, or with what the command raised."""
    _command().main(list(arguments), prog_name="maillinkd")
