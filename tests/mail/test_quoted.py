"""The quoted header block of a forward: found in every form, and in nothing that only looks a bit like one."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.quoted import MAX_LINES, Block, first_block, quoted_addresses

FORWARDS = Path(__file__).with_name("forwards")
PEOPLE = {"carla@client.example", "anna@ourco.example", "dan@client.example"}
CARLA = "Carla Client <carla@client.example>"


def cases(name: str) -> dict[str, str]:
    """The forwards of a file: each begins with a line `=== name`."""
    pieces = re.split(r"^=== (.*)\n", (FORWARDS / name).read_text(), flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


CLIENTS = cases("clients.txt")
LANGUAGES = cases("languages.txt")


def found(text: str) -> list[str]:
    block = first_block(text)
    return [address for _, address in block.addresses] if block else []


@pytest.mark.parametrize("client", CLIENTS)
def test_the_header_that_a_client_quotes_is_read(client: str) -> None:
    assert set(found(CLIENTS[client])) == PEOPLE


@pytest.mark.parametrize("language", LANGUAGES)
def test_its_labels_are_read_in_every_language(language: str) -> None:
    block = first_block(LANGUAGES[language])

    assert block is not None
    assert block.line == 2
    assert language in block.language.split("/")
    assert list(block.addresses) == [
        ("from", "carla@client.example"),
        ("to", "anna@ourco.example"),
        ("cc", "dan@client.example"),
    ]


@pytest.mark.parametrize("mark", ["> ", ">", ">> ", "| ", "  ", "\t", "\u200e", "\ufeff", "\xa0"])
@pytest.mark.parametrize("language", ["English", "German", "Hebrew", "Japanese"])
def test_marks_at_the_beginning_of_lines_change_nothing(mark: str, language: str) -> None:
    text = "".join(mark + line for line in LANGUAGES[language].splitlines(keepends=True))

    assert set(found(text)) == PEOPLE


@pytest.mark.parametrize("between", ["\xa0", "\u202f", "\u200b", "\u200f", "\xad", "  "])
def test_odd_spaces_beside_colons_change_nothing(between: str) -> None:
    text = f"Von{between}:{between}{CARLA}\nBetreff{between}:{between}Frage\n"

    assert found(text) == ["carla@client.example"]


@pytest.mark.parametrize(
    "text",
    [
        "Hello, how are you?",
        "On Sunday, Carla <carla@client.example> wrote:\n> hello",
        "On Sun, Mar 1, 2026 at 9:00 AM Carla <carla@client.example>\nwrote:\n\n> hello\n",
        "Am 01.03.26 um 09:00 schrieb Carla (carla@client.example):\n\n    hallo\n",
        "Best regards\nCarla\n-- \nCarla Client\nE-Mail: carla@client.example\nWeb: www.client.example\n",
        "From: Monday to Friday\nTo: carla@client.example\nSubject: office hours\n",
        f"From: {CARLA}\n\nonly one label",
        f"From: {CARLA}\n\n\nTo: anna@ourco.example\n",
        f"From: {CARLA}\nsome words\nSubject: x\n",
        f"From: {CARLA}\n\nsome words\nSubject: x\n",
        "From: Berlin\nTo: Paris\n",
        f"Hi, this is From: {CARLA}\nSubject: x\n",
        f"To: {CARLA}\nSubject: x\n",
        f"Von: {CARLA}\nAsunto: x\n",
        f"De: {CARLA}\nBetreff: x\n",
        f"From: {CARLA}\nCc: dan@client.example\n",
        f"From: {CARLA}\nAn: dan@client.example\n",
        "x\n" * MAX_LINES + f"From: {CARLA}\nSubject: x\n",
        f"Reply-To: {CARLA}\nCc: {CARLA}\nFrom: nobody\nSubject: x\n",
        f"On Sunday Bob wrote:\n> yes, see\n> \n> From: {CARLA}\n> Date: 1\n> Subject: x\n",
        f"On Sunday Bob wrote:\n>> no\n> yes\n> -----Original Message-----\n> From: {CARLA}\n> Subject: x\n",
    ],
)
def test_a_wrong_person_is_worse_than_none(text: str) -> None:
    assert found(text) == []


@pytest.mark.parametrize(
    "below",
    [
        "please call eve@client.example\n",
        "eve@client.example, are you there?\n",
        "\nCc eve@client.example\n",
        "Best regards,\nEve\n\nFrom: eve@client.example\nTo: fred@client.example\n",
    ],
)
def test_what_stands_below_the_block_is_not_looked_at(below: str) -> None:
    assert found(f"From: {CARLA}\nDate: 1\nSubject: x\nTo: dan@client.example\n{below}") == [
        "carla@client.example",
        "dan@client.example",
    ]


def test_only_the_first_block_counts() -> None:
    first = "From: Carla Client\nSent: Monday\nTo: dan@client.example\nSubject: b\n\nhello\n\n"
    second = "From: eve@client.example\nSent: Sunday\nTo: fred@client.example\nSubject: a\n"

    assert found(first + second) == ["dan@client.example"]


def test_a_block_of_names_alone_is_a_block_without_addresses() -> None:
    text = "hi\n\nVon: Carla\nGesendet: Montag\nAn: Anna\nBetreff: b\n\nVon: eve@client.example\nBetreff: a\n"

    assert first_block(text) == Block(3, "German", ())


def test_a_block_that_begins_late_is_read_to_its_end() -> None:
    recipients = "".join(f"client{number}@client.example,\n" for number in range(300))

    assert len(found("x\n" * (MAX_LINES - 1) + f"From: {CARLA}\nTo: {recipients}")) == 301


def test_addresses_come_in_the_order_of_the_fields() -> None:
    text = f"To: anna@ourco.example, {CARLA}\nReply-To: gina@client.example\nSubject: x\nFrom: {CARLA}\n"

    assert found(text) == [
        "carla@client.example",
        "gina@client.example",
        "anna@ourco.example",
        "carla@client.example",
    ]


def test_languages_that_share_the_labels_are_all_named() -> None:
    block = first_block(f"De: {CARLA}\nPara: dan@client.example\n")

    assert block is not None
    assert block.language == "Galician/Portuguese/Spanish"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (CARLA, ["carla@client.example"]),
        ("carla@client.example", ["carla@client.example"]),
        ("<mailto:carla@client.example>", ["carla@client.example"]),
        (
            "Carla [mailto:carla@client.example]; Dan (dan@client.example)",
            ["carla@client.example", "dan@client.example"],
        ),
        ("[carla@client.example](mailto:carla@client.example)", ["carla@client.example"]),
        ("Carla <carla@client.example<mailto:carla@client.example>>", ["carla@client.example"]),
        ('"Eve (eve@client.example) via Sales" <sales@ourco.example>', ["sales@ourco.example"]),
        ("Eve (eve@client.example) via Sales <sales@ourco.example>", ["sales@ourco.example"]),
        ("'eve@client.example' <carla@client.example>", ["carla@client.example"]),
        ("Client, Carla", []),
        ("Carla </O=CLIENT/OU=EXCHANGE/CN=RECIPIENTS/CN=CARLA>", []),
        ("", []),
    ],
)
def test_addresses_are_read_as_clients_write_them(value: str, expected: list[str]) -> None:
    assert list(quoted_addresses(value)) == expected


LABELLED = [
    "From: a@b.example\n",
    "To: ",
    "Von:",
    "> ",
    "\n",
    "[mailto:",
    "Subject: x",
    "-----",
    "De la: ",
    "：",
    "<",
]


@given(st.lists(st.sampled_from([*FRAGMENTS, *LABELLED])).map("".join))
def test_any_text_has_a_block_or_none(text: str) -> None:
    assert all("@" in address for address in found(text))


HOSTILE = [
    *FRAGMENTS,
    *LABELLED,
    "From: a@b,\n",
    "To: <",
    "[mailto:a@",
    "((",
    "[a@b]",
    ">To:",
    "De la\n",
    ">From: x\n",
]


@pytest.mark.parametrize("fragment", HOSTILE)
def test_the_time_is_bounded(fragment: str) -> None:
    with in_time():
        first_block(f"From: a@b\nTo: {repeated(fragment, 128_000)}")


def seconds(work: Callable[[], object]) -> float:
    """Of three times the shortest, so that a busy machine matters less."""

    def once() -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    return min(once() for _ in range(3))


@pytest.mark.parametrize(
    "fragment", ["[mailto:a@", "((", "[a@b]", "a" * 40 + ",", "<", ">To:", "----- ", "> ", " ", "From"]
)
def test_four_times_the_text_takes_four_times_as_long(fragment: str) -> None:
    """Quadratic code takes 16 times as long."""
    short, long = (f"From: a@b\nTo: {repeated(fragment, size)}" for size in (60_000, 240_000))

    factor = seconds(lambda: first_block(long)) / max(seconds(lambda: first_block(short)), 0.0005)

    assert factor < 10
