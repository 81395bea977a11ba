"""`link`, `unlink`: by hand."""

from typing import Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command

_Threads = Annotated[list[str], typer.Argument(metavar="THREAD", help="The threads, by their numbers.")]
_Item = Annotated[str, typer.Argument(metavar="KIND:ID", help="The item.")]
_As = Annotated[str, typer.Option("--as", metavar="USER", help="Who does it: a user of the configuration.")]


def add_to(root: typer.Typer) -> None:
    command(root, "link", "maillinkd link 12 deal:61 --as anna", "maillinkd link 12 14 15 deal:61 --as anna")(link)
    command(root, "unlink", "maillinkd unlink 12 deal:61 --as anna")(unlink)


async def link(given: Given, threads: _Threads, item: _Item, user: _As) -> None:
    """Links threads to an item by hand: all of them, or none.

    A deal, lead or project takes the place of what the thread was linked to; persons and organizations are added.
    """
    await _change(given, "link", threads, item, user)


async def unlink(given: Given, threads: _Threads, item: _Item, user: _As) -> None:
    """Takes a link away by hand: from all of the threads, or none. No mail brings it back but one to its address."""
    await _change(given, "unlink", threads, item, user)


async def _change(given: Given, what: str, threads: list[str], item: str, user: str) -> None:
    from maillinkd.app import open_house
    from maillinkd.cli import output

    numbers, ref = [values.number(each) for each in threads], values.item(item)
    async with open_house(given.settings()) as house:
        lines = await (house.link if what == "link" else house.unlink)(user, numbers, ref)
    for line in lines:
        if given.json:
            output.say_json(line)
        else:
            output.say(sentence(line))


def sentence(line: dict[str, Any]) -> str:
    """What a decision came to, for a person."""
    linked = [each for each in (line["slot"], *line["persons"], *line["organizations"]) if each]
    to = ", ".join(linked) or "nothing"
    return f"thread {line['thread']} is linked to {to} ({line['reason']})"
