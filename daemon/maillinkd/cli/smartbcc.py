"""`smartbcc address`: what to put in Bcc."""

from typing import Annotated

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

app = group("smartbcc", "The Smart Bcc addresses.", "maillinkd smartbcc address deal:61")


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


@command(app, "address", "maillinkd smartbcc address", "maillinkd smartbcc address deal:61")
def address(
    given: Given,
    item: Annotated[
        str | None, typer.Argument(metavar="KIND:ID", help="A deal, lead or project; without it the universal one.")
    ] = None,
) -> None:
    """Prints the address to put in Bcc, for any mail or for that of an item."""
    from maillinkd.cli import output
    from maillinkd.settings import ConfigurationError, Problem
    from maillinkd.smtp.address import SmartBccAddress

    ref = values.item(item) if item else None
    settings = given.settings()
    bcc = settings.smart_bcc
    if not bcc.address:
        key = "domain" if not bcc.domain else "local_part"
        raise ConfigurationError(
            [Problem(settings.source_of("smart_bcc", key), f"smart_bcc.{key}", "is not set: there is no address")]
        )
    try:
        found = SmartBccAddress(bcc.domain, bcc.local_part, settings.read_address_key()).address_of(ref)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if given.json:
        output.say_json({"item": ref and str(ref), "address": found})
    else:
        output.say(found)
