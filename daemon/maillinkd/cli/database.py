"""`db upgrade`, `db check`: the schema and the safety of what is stored."""

from typing import Any

import typer

from maillinkd.cli.given import Given, command, group

app = group("db", "The database.", "maillinkd db check")


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


@command(app, "upgrade", "maillinkd db upgrade")
async def upgrade(given: Given) -> None:
    """Brings the database to the schema of this program. On SQLite every start does it by itself."""
    from maillinkd.app import database_of
    from maillinkd.cli import output
    from maillinkd.store import schema
    from maillinkd.store import upgrade as schemas

    database = database_of(given.settings())
    try:
        applied = await schemas.upgrade(database)
    finally:
        await database.close()
    if given.json:
        output.say_json({"event": "upgraded", "schema": schema.VERSION, "applied": applied})
    elif applied:
        output.say(f"upgraded to schema {schema.VERSION}: {', '.join(applied)}")
    else:
        output.say(f"schema {schema.VERSION} is there already")


@command(app, "check", "maillinkd db check")
async def check(given: Given) -> int:
    """Says which schema the database has, and whether this program can use it. Changes nothing."""
    from maillinkd.cli import output

    said, usable = await schema_of(given)
    if given.json:
        output.say_json(said)
    else:
        output.pairs((name, value) for name, value in said.items())
    return 0 if usable else 1


async def schema_of(given: Given) -> tuple[dict[str, Any], bool]:
    """How the database's schema stands, and whether the program can use it."""
    from maillinkd.app import database_of
    from maillinkd.store import upgrade as schemas

    settings = given.settings()
    said: dict[str, Any] = {"database": settings.database.shown_url()}
    path = settings.database.sqlite_path()
    if path is not None and not path.exists():
        return said | {"schema": None, "state": "not there yet: the first start makes it"}, True
    database = database_of(settings)
    try:
        state = await schemas.check(database)
    finally:
        await database.close()
    said["schema"] = state.current
    if state.newer:
        return said | {"state": f"newer than this program, which knows {state.newest}"}, False
    if state.needed:
        return said | {"state": f"to be upgraded to {state.newest}: maillinkd db upgrade"}, database.is_sqlite
    return said | {"state": "up to date"}, True
