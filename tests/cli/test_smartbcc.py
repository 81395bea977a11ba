"""`smartbcc address`"""

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
