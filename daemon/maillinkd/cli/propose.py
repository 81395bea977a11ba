"""`propose`: older threads that were left empty because their item came later (linking.md L25)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from maillinkd.cli import exit_codes, values
from maillinkd.cli.given import Given, command

if TYPE_CHECKING:
    from maillinkd.directory.item import ItemRef
    from maillinkd.ingest.propose import Proposal
    from maillinkd.store.database import Database
    from maillinkd.store.views import ThreadView


def add_to(root: typer.Typer) -> None:
    command(
        root,
        "propose",
        "maillinkd propose --item deal:61",
        "maillinkd propose --item deal:61 --link --as anna",
        "maillinkd propose --all --owner anna --json",
    )(propose)


async def propose(
    given: Given,
    item: Annotated[str | None, typer.Option(metavar="KIND:ID", help="Threads for this item.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Threads for every open item.")] = False,
    owner: Annotated[str | None, typer.Option(metavar="NAME", help="Threads of this user or team alone.")] = None,
    link: Annotated[bool, typer.Option("--link", help="Link them, by hand and as one batch.")] = False,
    user: Annotated[
        str | None, typer.Option("--as", metavar="USER", help="Who links: a user of the configuration.")
    ] = None,
) -> int:
    """Lists older threads of the item's person that are linked to no item because the item came later.

    --link links them in one go. With --all a thread that is proposed for several items is not linked, and named; then
    the exit code is 1.
    """
    from maillinkd.app import open_house
    from maillinkd.cli.hand import say_changes
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import changes
    from maillinkd.ingest.propose import unambiguous

    if (item is None) != every:
        raise typer.BadParameter("say either --item KIND:ID or --all")
    if link != (user is not None):
        raise typer.BadParameter("--link and --as USER go together")
    ref = values.item(item) if item is not None else None
    settings = given.settings()
    async with open_house(settings, decides=link) as house:
        proposals = await changes.proposals(house, ref, owner)
        if user is None:
            _show(given, proposals, await _views(house.database, proposals))
            return exit_codes.OK
        clear, unclear = unambiguous(proposals)
        with progress("linking", "threads", len(clear)) as advance:
            lines = await changes.link_proposed(house, user, clear, advance)
    say_changes(given, lines, user)
    _say_unclear(given, unclear)
    return exit_codes.FAILED if unclear else exit_codes.OK


async def _views(database: "Database", proposals: "Sequence[Proposal]") -> "Mapping[int, ThreadView]":
    from maillinkd.store import views

    async with database.reading() as connection:
        return await views.read_threads(connection, {each.label for each in proposals})


def _show(given: Given, proposals: "Sequence[Proposal]", views: "Mapping[int, ThreadView]") -> None:
    from maillinkd.cli import output
    from maillinkd.cli.threads import thread_line

    found = [(each.item, views[each.label]) for each in proposals if each.label in views]
    if given.json:
        for item, view in found:
            output.say_json({"item": str(item)} | thread_line(view))
        return
    output.table(
        ("item", "#thread", "started", "last message", "owner", "persons", "subject"),
        (
            (
                item,
                view.id,
                f"{view.started_at:%Y-%m-%d %H:%M}",
                f"{view.last_message_at:%Y-%m-%d %H:%M}",
                view.owner,
                view.persons,
                view.subject,
            )
            for item, view in found
        ),
        nothing="nothing to propose",
    )


def _say_unclear(given: Given, unclear: "Mapping[int, Sequence[ItemRef]]") -> None:
    from maillinkd.cli import output

    for thread, items in unclear.items():
        because = f"it is proposed for several items: {', '.join(map(str, items))}"
        if given.json:
            output.say_json({"event": "left", "thread": thread, "because": because, "decision": None})
        else:
            output.complain(f"maillinkd: thread {thread} is left as it is: {because}; link it by hand")
