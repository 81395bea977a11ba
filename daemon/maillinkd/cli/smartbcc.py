"""`smartbcc address|item`: what to put in Bcc, and what an address means."""

from typing import TYPE_CHECKING, Annotated

import typer

from maillinkd.cli import values
from maillinkd.cli.given import Given, command, group

if TYPE_CHECKING:
    from maillinkd.smtp.address import SmartBccAddress

app = group("smartbcc", "The Smart Bcc addresses.", "maillinkd smartbcc address deal:61")


def add_to(root: typer.Typer) -> None:
    root.add_typer(app)


@command(app, "address", "maillinkd smartbcc address", "maillinkd smartbcc address deal:61")
def address(
    given: Given,
    item: Annotated[
        str | None, typer.Argument(metavar="KIND:ID", help="A deal, lead or project; without it the universal one.")
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="The form with a token, for a lead whose id is a UUID.")
    ] = False,
) -> None:
    """Prints the address to put in Bcc, for any mail or for that of an item."""
    from maillinkd.cli import output
    from maillinkd.directory.item import ItemKind

    ref = values.item(item) if item is not None else None
    if token and (ref is None or ref.kind is not ItemKind.LEAD or not _is_uuid(ref.id)):
        raise typer.BadParameter(
            "only a lead whose id is a UUID has an address with a token: expected one such as "
            f"lead:adf21080-0e10-11eb-879b-05d71fb426ec, not {item or 'no item'}"
        )
    ours = _ours(given)
    try:
        found = ours.lead_token_address(ref.id) if token and ref else ours.address_of(ref)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if given.json:
        output.say_json({"item": ref and str(ref), "address": found})
    else:
        output.say(found)


@command(app, "item", "maillinkd smartbcc item ourco+deal61@bcc.ourco.example")
def item(
    given: Given, address: Annotated[str, typer.Argument(metavar="ADDRESS", help="A Smart Bcc address.")]
) -> None:
    """Prints which item an address names, known or not; exit code 1 if it is no Smart Bcc address."""
    from maillinkd.cli import output
    from maillinkd.ingest.hand import Refused

    target = _ours(given).parse(address)
    if target is None:
        raise Refused(f"{address} is no Smart Bcc address of this configuration")
    if given.json:
        output.say_json({"address": address, "item": target.item and str(target.item)})
    else:
        output.say(str(target.item) if target.item else "no item: it is the universal address")


def _is_uuid(text: str) -> bool:
    """Whether it is one as RFC 9562, 4 writes it: an address with a token leads to no other spelling."""
    from uuid import UUID

    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _ours(given: Given) -> "SmartBccAddress":
    from maillinkd.settings import ConfigurationError, Problem
    from maillinkd.smtp.address import SmartBccAddress

    settings = given.settings()
    bcc = settings.smart_bcc
    if not bcc.address:
        key = "domain" if not bcc.domain else "local_part"
        raise ConfigurationError(
            [Problem(settings.source_of("smart_bcc", key), f"smart_bcc.{key}", "is not set: there is no address")]
        )
    return SmartBccAddress(bcc.domain, bcc.local_part, settings.read_address_keys())
