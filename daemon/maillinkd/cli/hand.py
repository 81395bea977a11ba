"""`link`, `unlink`, `undo`: by hand."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from maillinkd.cli import exit_codes, values
from maillinkd.cli.given import Given, command

_Threads = Annotated[list[str], typer.Argument(metavar="THREAD", help="The threads, by their numbers.")]
_Item = Annotated[str, typer.Argument(metavar="KIND:ID", help="The item; it may also stand before the threads.")]
As = Annotated[str, typer.Option("--as", metavar="USER", help="Who does it: a user of the configuration.")]


def add_to(root: typer.Typer) -> None:
    command(
        root,
        "link",
        "maillinkd link 12 deal:61 --as anna",
        "maillinkd link 12 14 15 deal:61 --as anna",
        "maillinkd link deal:61 12 14 15 --as anna",
    )(link)
    command(root, "unlink", "maillinkd unlink 12 deal:61 --as anna")(unlink)
    command(root, "undo", "maillinkd undo 7 --as anna")(undo)


async def link(given: Given, threads: _Threads, item: _Item, user: As) -> None:
    """Links threads to an item by hand: all of them, or none.

    A deal, lead or project takes the place of what the thread was linked to; persons and organizations are added.
    """
    await _change(given, "link", threads, item, user)


async def unlink(given: Given, threads: _Threads, item: _Item, user: As) -> None:
    """Takes a link away by hand: from all of the threads, or none. No mail brings it back but one to its address."""
    await _change(given, "unlink", threads, item, user)


async def _change(given: Given, what: str, threads: list[str], item: str, user: str) -> None:
    from maillinkd.app import open_house
    from maillinkd.ingest import changes

    if ":" in threads[0] and ":" not in item:  # from the item (L19)
        threads, item = [*threads[1:], item], threads[0]
    numbers, ref = [values.number(each) for each in threads], values.item(item)
    async with open_house(given.settings()) as house:
        lines = await (changes.link if what == "link" else changes.unlink)(house, user, numbers, ref)
    say_changes(given, lines, user)


async def undo(
    given: Given,
    batch: Annotated[str, typer.Argument(metavar="BATCH", help="Its number, as link, unlink and decide say it.")],
    user: As,
) -> int:
    """Takes back what a batch of changes did: its threads are linked again as they were before.

    It is a batch itself, so that it can be undone. A thread that mail, a merge or a hand has decided since is left as
    it is, and named; then the exit code is 1. What `decide` did only an admin takes back.
    """
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import changes

    number = values.number(batch, "batch", "link, unlink and decide say it")
    settings = given.settings()
    with progress("undoing", "threads") as advance:
        async with open_house(settings) as house:
            undone = await changes.undo_batch(house, user, number, advance)
    say_changes(given, undone.lines, user)
    for left in undone.left:
        if given.json:
            fields = {"event": "left", "thread": left.thread, "because": left.because, "decision": left.decision}
            output.say_json(fields)
        else:
            output.complain(f"maillinkd: thread {left.thread} is left as it is: {left.because}")
    return exit_codes.FAILED if undone.left else exit_codes.OK


def say_changes(given: Given, lines: Sequence[dict[str, Any]], user: str) -> None:
    """Prints what a batch of changes by hand came to, and how it is taken back."""
    from maillinkd.cli import output

    for line in lines:
        if given.json:
            output.say_json(line)
        else:
            output.say(output.escaped(sentence(line)))
    if lines and not given.json:
        batch = lines[0]["batch"]
        output.say(output.escaped(f"batch {batch}: `maillinkd undo {batch} --as {user}` takes it back"))


def sentence(line: dict[str, Any]) -> str:
    """What a decision came to, for a person."""
    linked = [each for each in (line["slot"], *line["persons"], *line["organizations"]) if each]
    to = ", ".join(linked) or "nothing"
    return f"thread {line['thread']} is linked to {to} ({line['reason']})"
