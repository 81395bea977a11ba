"""`smartbcc address|item`"""

import pytest

from cli.shell import CONFIGURATION, Shell

KEYED = 'address_key_file = "{}"\n'


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), "ourco@bcc.ourco.example"),
        (("deal:61",), "ourco+deal61@bcc.ourco.example"),
        (("lead:adf21080-0e10-11eb",), "ourco+leadadf21080-0e10-11eb@bcc.ourco.example"),
    ],
)
def test_the_address_is_printed(shell: Shell, arguments: tuple[str, ...], expected: str) -> None:
    assert shell.good("smartbcc", "address", *arguments).output == f"{expected}\n"
    assert shell.good("smartbcc", "address", *arguments, "--json").lines == [
        {"v": 1, "item": arguments[0] if arguments else None, "address": expected}
    ]


def test_with_a_key_the_address_has_its_suffix(shell: Shell) -> None:
    shell.configure(KEYED.format(shell.write("key", "0123456789abcdef")))

    address = shell.good("smartbcc", "address", "deal:61").output.strip()

    assert address.startswith("ourco+deal61.")
    assert len(address.partition("@")[0]) == len("ourco+deal61.") + 8


@pytest.mark.parametrize("item", ["person:3", "deal"])
def test_what_has_no_address_is_a_wrong_usage(shell: Shell, item: str) -> None:
    assert shell.run("smartbcc", "address", item).code == 2


def test_without_smart_bcc_there_is_no_address(shell: Shell) -> None:
    shell.config.write_text(CONFIGURATION.format(directory=shell.directory).partition("[smart_bcc]")[0])

    ran = shell.run("smartbcc", "address")

    assert ran.code == 78
    assert "smart_bcc.domain: is not set" in ran.complaint


LEAD = "lead:adf21080-0e10-11eb-879b-05d71fb426ec"
TOKEN = "ourco+1+leadntPaYKA5QRxXkh6WMNHiGh@bcc.ourco.example"


def test_a_lead_has_an_address_with_a_token_and_back(shell: Shell) -> None:
    assert shell.good("smartbcc", "address", LEAD, "--token").output == f"{TOKEN}\n"
    assert shell.good("smartbcc", "item", TOKEN).output == f"{LEAD}\n"


@pytest.mark.parametrize("arguments", [("deal:61",), ("lead:x",), (LEAD.replace("-", ""),), ()])
def test_nothing_else_has_a_token(shell: Shell, arguments: tuple[str, ...]) -> None:
    """The address leads to the lead whose id is the UUID as it is usually written."""
    ran = shell.run("smartbcc", "address", *arguments, "--token")

    assert ran.code == 2
    assert f"only a lead whose id is a UUID has an address with a token: expected one such as {LEAD}" in ran.complaint


def test_an_address_is_told_to_name_its_item(shell: Shell) -> None:
    assert shell.good("smartbcc", "item", "ourco@bcc.ourco.example").output.startswith("no item")
    assert shell.good("smartbcc", "item", "OURCO+deal61@bcc.ourco.example", "--json").lines == [
        {"v": 1, "address": "OURCO+deal61@bcc.ourco.example", "item": "deal:61"}
    ]
    ran = shell.run("smartbcc", "item", "carla@client.example")
    assert (ran.code, "is no Smart Bcc address" in ran.complaint) == (1, True)


def test_addresses_of_a_former_key_are_known_while_it_is_listed(shell: Shell) -> None:
    shell.configure(KEYED.format(shell.write("key", "0123456789abcdef")))
    former = shell.good("smartbcc", "address", "deal:61").output.strip()
    shell.write("key", "the key from now on\n0123456789abcdef\n")

    assert shell.good("smartbcc", "item", former).output == "deal:61\n"
    assert shell.good("smartbcc", "address", "deal:61").output.strip() != former
    shell.write("key", "the key from now on\n")
    assert shell.run("smartbcc", "item", former).code == 1
