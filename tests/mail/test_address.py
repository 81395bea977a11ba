"""Addresses and lists of them (RFC 5322, 3.4; RFC 6532; linking.md, Words)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mail.hostile import FRAGMENTS, in_time, repeated
from maillinkd.mail.address import (
    MAX_ADDRESS,
    MAX_ADDRESSES,
    is_internal,
    normalise,
    parse_addresses,
    without_plus_tag,
)

any_text = st.text(st.characters(exclude_categories=()))
list_text = st.lists(st.sampled_from([*FRAGMENTS, "carla@client.example", "Carla", ",", " "])).map("".join)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("carla@client.example", "carla@client.example"),
        ("  Carla.Client@CLIENT.Example\t", "carla.client@client.example"),
        ("Carla+Roof@client.example", "carla+roof@client.example"),
        ("carla@Bücher.example", "carla@xn--bcher-kva.example"),
        ("carla@XN--BCHER-KVA.example", "carla@xn--bcher-kva.example"),
        ("ÄRGER@client.example", "ärger@client.example"),
        ("a\u0308@client.example", "ä@client.example"),
        ("carla@fööbar..example", "carla@fööbar..example"),
        ("carla", "carla"),
        ("", ""),
        ("car\udce4la@client.example", "car\ufffdla@client.example"),
    ],
)
def test_an_address_is_compared_in_lower_case_with_an_ascii_domain(address: str, expected: str) -> None:
    assert expected == normalise(address)


@given(st.one_of(any_text, st.builds("{}@{}".format, any_text, any_text)))
def test_normalising_again_changes_nothing_and_the_result_is_utf_8(address: str) -> None:
    once = normalise(address)

    assert once == normalise(once)
    assert once == once.encode().decode()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("carla+roof@client.example", "carla@client.example"),
        ("carla+a+b@client.example", "carla@client.example"),
        ("carla@client.example", "carla@client.example"),
        ("+roof@client.example", "+roof@client.example"),
        ("carla@a+b.example", "carla@a+b.example"),
    ],
)
def test_a_plus_tag_can_be_left_out(address: str, expected: str) -> None:
    assert expected == without_plus_tag(address)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("anna@ourco.example", True),
        ("anna@mail.eu.ourco.example", True),
        ("anna@notourco.example", False),
        ("anna@ourco.example.net", False),
        ("anna@example", False),
        ("anna", False),
        ("", False),
    ],
)
def test_a_domain_and_its_subdomains_are_internal(address: str, expected: bool) -> None:
    assert expected == is_internal(address, {"ourco.example"})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("carla@client.example", ["carla@client.example"]),
        ("Carla Client <Carla@Client.example>", ["carla@client.example"]),
        (
            '"Client, Carla" <carla@client.example>, dan@client.example',
            ["carla@client.example", "dan@client.example"],
        ),
        ("Client, Carla <carla@client.example>", ["carla@client.example"]),
        ("carla@client.example (Carla (the (real) one))", ["carla@client.example"]),
        ("(a comment, <no@one.example>) carla@client.example", ["carla@client.example"]),
        ("carla@client.example (never closed, dan@client.example", ["carla@client.example", "dan@client.example"]),
        ("Team: carla@client.example, Dan <dan@client.example>;", ["carla@client.example", "dan@client.example"]),
        ("undisclosed-recipients:;", []),
        ("carla@client.example; dan@client.example", ["carla@client.example", "dan@client.example"]),
        ("Carla <carla@client.example> Dan <dan@client.example>", ["carla@client.example", "dan@client.example"]),
        ("<@relay.example,@other.example:carla@client.example>", ["carla@client.example"]),
        ("<mailto:carla@client.example>", ["carla@client.example"]),
        ("mailto:carla@client.example", ["carla@client.example"]),
        ("< carla@client.example >", ["carla@client.example"]),
        ("carla @ client.example", ["carla@client.example"]),
        ("Carla <carla@client.example", ["carla@client.example"]),
        ("Carla carla@client.example", ["carla@client.example"]),
        ("Mr. carla@client.example", ["carla@client.example"]),
        ("'carla@client.example'", ["carla@client.example"]),
        ('"carla@client.example"', ["carla@client.example"]),
        ('"other@place.example" <carla@client.example>', ["carla@client.example"]),
        ("other@place.example <carla@client.example>", ["carla@client.example"]),
        ('"carla client"@client.example', ['"carla client"@client.example']),
        ('"carla"@client.example', ["carla@client.example"]),
        (r'"c\arla"@client.example', ["carla@client.example"]),
        ('<"a@b"@client.example>', ['"a@b"@client.example']),
        ("=?utf-8?Q?Client,_Carla_<no@one.example>?= <carla@client.example>", ["carla@client.example"]),
        ("=?utf-8?B?Q2FybGE=?= <carla@client.example>", ["carla@client.example"]),
        ("Käthe <käthe@bücher.example>", ["käthe@xn--bcher-kva.example"]),
        (b"K\xe4the <carla@client.example>", ["carla@client.example"]),
        ("Carla <carla@[192.0.2.1]>", ["carla@[192.0.2.1]"]),
        ("root@localhost", ["root@localhost"]),
        ("carla..c.@client.example", ["carla..c.@client.example"]),
        ("carla@client.example, CARLA@client.example", ["carla@client.example"]),
        ("a@b@c.example", []),
        ("Carla <carla>", []),
        ("@client.example, carla@, @", []),
        ('"esc\x1b"@client.example', []),
        ("a" * MAX_ADDRESS + "@client.example", []),
        ("", []),
    ],
)
def test_the_addresses_of_a_list_are_found(value: str | bytes, expected: list[str]) -> None:
    assert tuple(expected) == parse_addresses(value)


def test_folded_lists_are_read() -> None:
    value = b'"Carla\r\n Client" <carla@client.example>,\r\n\tdan@client.example'

    assert parse_addresses(value) == ("carla@client.example", "dan@client.example")


def test_a_field_gives_a_thousand_addresses_at_most() -> None:
    value = ", ".join(f"a{number}@client.example" for number in range(2 * MAX_ADDRESSES))

    assert len(parse_addresses(value)) == MAX_ADDRESSES


@given(st.one_of(any_text, list_text, st.binary()))
def test_any_value_gives_addresses_that_are_normalised_and_utf_8(value: str | bytes) -> None:
    for address in parse_addresses(value):
        assert address == normalise(address)
        assert address == address.encode().decode()
        assert len(address.rpartition("@")[0]) > 0
        assert not any(character.isspace() and character != " " for character in address)


@pytest.mark.parametrize("fragment", FRAGMENTS)
def test_the_time_grows_with_the_length_alone(fragment: str) -> None:
    with in_time():
        parse_addresses(repeated(fragment))
