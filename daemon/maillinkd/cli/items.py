"""`items list`, `items show`, `items set`: the directory."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.directory.item import Item, ItemRef

app = group("items", "The directory: deals, leads, projects, persons, organizations.", "maillinkd items show deal:61")

_Item = Annotated[str, typer.Argument(metavar="KIND:ID", help="The item.")]

_FLAGS = ("archived", "deleted")
_LISTS = ("addresses", "participants")


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


@command(app, "list", "maillinkd items list --kind deal --search roof", "maillinkd items list --json > items.jsonl")
async def list_items(
    given: Given,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Of this kind alone.")] = None,
    search: Annotated[
        str | None, typer.Option(metavar="TEXT", help="With this in the title, the id or an address.")
    ] = None,
) -> None:
    """Lists items. With --json in the form that `import items` takes."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.directory.lines import as_line
    from maillinkd.store import items

    chosen = values.kind(kind, "--kind") if kind is not None else None
    async with open_house(given.settings(), decides=False) as house, house.database.reading() as connection:
        found = await items.listing(connection, chosen, search)
    if given.json:
        for item in found:
            output.say_json(as_line(item))
        return
    output.table(
        ("item", "title", "status", "person", "organization", "added", "addresses"),
        (
            (
                item.ref,
                item.title,
                _status(item),
                item.person,
                item.organization,
                item.added_at and f"{item.added_at:%Y-%m-%d}",
                item.addresses,
            )
            for item in found
        ),
        nothing="no items",
    )


@command(app, "show", "maillinkd items show deal:61")
async def show(given: Given, item: _Item) -> None:
    """Shows an item, and the threads that are linked to it."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.cli.threads import thread_line, thread_table
    from maillinkd.directory.lines import as_line
    from maillinkd.store import items, views

    ref = values.item(item)
    async with open_house(given.settings(), decides=False) as house, house.database.reading() as connection:
        known = (await items.read(connection, [ref])).get(ref)
        if known is None:
            raise _unknown(ref)
        threads = [view async for view in views.list_threads(connection, linked_to=ref)]
    if given.json:
        output.say_json(as_line(known) | {"threads": [thread_line(view) for view in threads]})
        return
    output.pairs((name, value) for name, value in as_line(known).items() if name not in ("kind", "id", "deleted"))
    output.say()
    thread_table(threads)


@command(
    app,
    "set",
    "maillinkd items set deal:61 status=won",
    "maillinkd items set person:3 addresses=a@x.example,b@x.example",
)
async def set_fields(
    given: Given,
    item: _Item,
    fields: Annotated[
        list[str],
        typer.Argument(
            metavar="FIELD=VALUE",
            help="null clears a field, lists are separated by commas, flags are true or false.",
        ),
    ],
) -> None:
    """Changes fields of an item. Its threads follow (persons, organizations, converted leads)."""
    from maillinkd.app import open_house
    from maillinkd.cli import output
    from maillinkd.cli.importing import INSTANCE
    from maillinkd.directory.lines import Change, LineError, as_line, read_fields
    from maillinkd.ingest import changes
    from maillinkd.store import items

    ref = values.item(item)
    try:
        change = Change(ref, read_fields(ref.kind, dict(map(_assignment, fields))))
    except LineError as error:
        raise typer.BadParameter(str(error)) from None
    async with open_house(given.settings(), instance=INSTANCE) as house:
        async with house.database.reading() as connection:
            if ref not in await items.read(connection, [ref]):
                raise _unknown(ref)
        [known] = await changes.import_items(house, [change])
    if given.json:
        output.say_json(as_line(known))
    else:
        output.pairs((name, value) for name, value in as_line(known).items() if name not in ("kind", "id"))


def _assignment(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise typer.BadParameter(f"{text!r}: expected FIELD=VALUE, as in status=won")
    if value == "null":
        return name, None
    if name in _FLAGS:
        return name, {"true": True, "false": False}.get(value.lower(), value)
    if name in _LISTS:
        return name, [part.strip() for part in value.split(",") if part.strip()]
    return name, value


def _status(item: "Item") -> str:
    said = [item.status or ""]
    said += ["archived"] if item.archived else []
    said += ["deleted"] if item.deleted else []
    return " ".join(filter(None, said))


def _unknown(ref: "ItemRef") -> Exception:
    from maillinkd.ingest.hand import Refused

    return Refused(f"there is no {ref}: import it first (maillinkd import items)")
