"""`verify`: whether every decision follows from its facts, and the database is whole (linking.md L24)."""

import typer

from maillinkd.cli.given import Given, command


def add_to(root: typer.Typer) -> None:
    command(root, "verify", "maillinkd verify", "maillinkd verify --json")(verify)


async def verify(given: Given) -> int:
    """Makes every decision again from the facts in the journal, and looks whether journal and database are whole.

    Prints what is wrong, each with its place and what it means, and ends with exit code 1 if anything is. Changes
    nothing. The daemon may run beside it.
    """
    from maillinkd.app import open_house
    from maillinkd.cli import exit_codes, output
    from maillinkd.cli.progress import progress
    from maillinkd.ingest import verify as verification
    from maillinkd.store.invariants import Summary

    settings = given.settings()
    summary = Summary()
    async with open_house(settings, decides=False) as house, house.database.reading() as connection:
        total = await verification.size(connection)
        with progress("verifying", "rows", total) as advance:
            async for each in verification.verify(connection, summary, advance):
                if given.json:
                    output.say_json(
                        {"event": "problem", "check": each.check, "place": each.place, "problem": each.problem}
                    )
                else:
                    output.say(output.escaped(f"{each.check}: {each.place}: {each.problem}"))
    counts = {
        "decisions": summary.decisions,
        "made_again": summary.made_again,
        "erased": summary.erased,
        "threads": summary.threads,
        "messages": summary.messages,
        "problems": summary.problems,
    }
    if given.json:
        output.say_json({"event": "verified", **counts})
    else:
        erased = f" ({summary.erased} without their facts, which were erased)" if summary.erased else ""
        output.say(
            f"{summary.decisions} decisions{erased}, {summary.threads} threads, {summary.messages} messages: "
            + (f"{summary.problems} problems" if summary.problems else "all is as it should be")
        )
    return exit_codes.FAILED if summary.problems else exit_codes.OK
