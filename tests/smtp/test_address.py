"""Smart Bcc addresses (linking.md L13)."""

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.smtp.address import FLICKR_BASE58, SmartBccAddress, Target, lead_of_token, lead_token

OURS = SmartBccAddress("bcc.ourco.example", "ourco")
KEYED = SmartBccAddress("bcc.ourco.example", "ourco", (b"a key of the tests",))
LEAD = "adf21080-0e10-11eb-879b-05d71fb426ec"
TOKEN = "ntPaYKA5QRxXkh6WMNHiGh"

item_ids = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-", min_size=1, max_size=64)
slot_items = st.builds(ItemRef, st.sampled_from([ItemKind.DEAL, ItemKind.LEAD, ItemKind.PROJECT]), item_ids)


@pytest.mark.parametrize(
    ("recipient", "item"),
    [
        ("ourco@bcc.ourco.example", None),
        ("OurCo@BCC.ourco.EXAMPLE", None),
        ("ourco@bcc.ourco.example.", None),
        ('"ourco"@bcc.ourco.example', None),
        ("ourco+deal61@bcc.ourco.example", "deal:61"),
        ("OURCO+DEAL61@bcc.ourco.example", "deal:61"),
        ('"ourco+deal61"@bcc.ourco.example', "deal:61"),
        (r'"ourco\+deal61"@bcc.ourco.example', "deal:61"),
        ("ourco+deal061@bcc.ourco.example", "deal:061"),
        ("ourco+project9@bcc.ourco.example", "project:9"),
        ("ourco+lead17@bcc.ourco.example", "lead:17"),
        (f"ourco+lead{LEAD}@bcc.ourco.example", f"lead:{LEAD}"),
        (f"ourco+1+lead{TOKEN}@bcc.ourco.example", f"lead:{LEAD}"),
        (f"OURCO+1+LEAD{TOKEN}@BCC.OURCO.EXAMPLE", f"lead:{LEAD}"),
    ],
)
def test_a_recipient_of_ours_names_its_item(recipient: str, item: str | None) -> None:
    expected = Target(ItemRef.parse(item) if item else None)

    assert OURS.parse(recipient) == expected


@pytest.mark.parametrize(
    "recipient",
    [
        "",
        "ourco",
        "@bcc.ourco.example",
        "other@bcc.ourco.example",
        "ourc@bcc.ourco.example",
        "ourco2@bcc.ourco.example",
        "ourco.deal61@bcc.ourco.example",
        "ourco+@bcc.ourco.example",
        "ourco+61@bcc.ourco.example",
        "ourco+deal@bcc.ourco.example",
        "ourco+deal 61@bcc.ourco.example",
        "ourco+deal61.k3f9q2m7@bcc.ourco.example",
        "ourco+deal61+deal62@bcc.ourco.example",
        "ourco+person3@bcc.ourco.example",
        "ourco+organization7@bcc.ourco.example",
        f"ourco+deal{'6' * 65}@bcc.ourco.example",
        f"ourco+2+lead{TOKEN}@bcc.ourco.example",
        f"ourco+1+deal{TOKEN}@bcc.ourco.example",
        f"ourco+1+lead{TOKEN}x@bcc.ourco.example",
        f"ourco+1+lead{'0' * 22}@bcc.ourco.example",
        f"ourco+1+lead{'Z' * 22}@bcc.ourco.example",
        "ourco%other.example@bcc.ourco.example",
        "other.example!ourco@bcc.ourco.example",
        "@relay.example:ourco@bcc.ourco.example",
        "ourco@bcc.ourco.example@other.example",
        "ourco@other.example",
        "ourco@ourco.example",
        "ourco@sub.bcc.ourco.example",
        "ourco@bcc.ourco.example..",
        "ourco@[127.0.0.1]",
        '"ourco@bcc.ourco.example',
        '"our"co@bcc.ourco.example',
        "ourco(comment)@bcc.ourco.example",
        " ourco@bcc.ourco.example",
        "ourco\r@bcc.ourco.example",
        "ourco+deal\u212a1@bcc.ourco.example",
        "our\u017fco@bcc.ourco.example",
        "ourco@bcc.ourco.example\udcff",
    ],
)
def test_anything_else_is_an_unknown_recipient(recipient: str) -> None:
    assert OURS.parse(recipient) is None


def test_the_token_alone_is_case_sensitive() -> None:
    other = OURS.parse(f"ourco+1+lead{TOKEN.swapcase()}@bcc.ourco.example")

    assert other != Target(ItemRef(ItemKind.LEAD, LEAD))


@pytest.mark.parametrize(
    "spelling", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--BCHER-KVA.example."]
)
def test_a_domain_is_the_same_in_every_spelling(spelling: str) -> None:
    ours = SmartBccAddress("Bücher.example", "ourco")

    assert ours.address_of(None) == "ourco@xn--bcher-kva.example"
    assert ours.parse(f"ourco+deal61@{spelling}") == Target(ItemRef(ItemKind.DEAL, "61"))


@pytest.mark.parametrize(
    ("recipient", "ours"),
    [
        ("nobody@bcc.ourco.example", True),
        ("ourco@BCC.ourco.example.", True),
        ("ourco@other.example", False),
        ("ourco", False),
        ("ourco@bcc.ourco.example@other.example", False),
        ('"ourco@bcc.ourco.example"@other.example', False),
    ],
)
def test_owns_says_whether_the_domain_is_ours(recipient: str, ours: bool) -> None:
    assert OURS.owns(recipient) is ours


def test_a_lead_token_stands_for_the_uuid_of_the_rule() -> None:
    assert lead_token(LEAD) == TOKEN
    assert lead_of_token(TOKEN) == LEAD


@given(st.uuids())
def test_token_and_uuid_turn_into_each_other(uuid: UUID) -> None:
    token = lead_token(str(uuid))

    assert len(token) == 22
    assert set(token) <= set(FLICKR_BASE58)
    assert lead_of_token(token) == str(uuid)
    assert OURS.parse(OURS.lead_token_address(str(uuid))) == Target(ItemRef(ItemKind.LEAD, str(uuid)))
    assert KEYED.parse(KEYED.lead_token_address(str(uuid))) == Target(ItemRef(ItemKind.LEAD, str(uuid)))


@pytest.mark.parametrize("token", ["", "1" * 23, "0", "l", "Z" * 22, "é"])
def test_what_stands_for_no_uuid_is_no_token(token: str) -> None:
    with pytest.raises(ValueError):
        lead_of_token(token)


@given(slot_items)
def test_the_address_of_an_item_names_that_item(item: ItemRef) -> None:
    for ours in (OURS, KEYED):
        assert ours.parse(ours.address_of(item)) == Target(item)


@given(slot_items, st.data())
def test_an_address_may_be_written_in_any_case(item: ItemRef, data: st.DataObject) -> None:
    address = KEYED.address_of(item)
    scrambled = "".join(data.draw(st.sampled_from([letter.lower(), letter.upper()])) for letter in address)

    target = KEYED.parse(scrambled)

    assert target is not None
    assert target.item is not None
    assert (target.item.kind, target.item.key) == (item.kind, item.key)


@given(st.text(max_size=80))
def test_no_text_makes_it_fail(text: str) -> None:
    for recipient in (text, f"{text}@bcc.ourco.example", f"ourco+{text}@bcc.ourco.example", f"ourco@{text}"):
        OURS.parse(recipient)
        KEYED.parse(recipient)


@given(slot_items)
def test_with_a_key_a_tag_without_its_suffix_is_unknown(item: ItemRef) -> None:
    address = KEYED.address_of(item)
    name, _, domain = address.partition("@")
    bare, _, suffix = name.rpartition(".")
    wrong = suffix[:-1] + ("0" if suffix[-1] != "0" else "1")

    assert KEYED.parse(f"{bare}@{domain}") is None
    assert KEYED.parse(f"{bare}.{wrong}@{domain}") is None
    assert KEYED.parse(f"{bare}x.{suffix}@{domain}") is None
    assert KEYED.parse(f"{bare}.@{domain}") is None
    assert SmartBccAddress(KEYED.domain, KEYED.local_part, (b"another key",)).parse(address) is None


def test_the_universal_address_needs_no_suffix() -> None:
    assert KEYED.address_of(None) == "ourco@bcc.ourco.example"
    assert KEYED.parse("ourco@bcc.ourco.example") == Target(None)


def test_a_suffix_has_eight_letters_and_stays_the_same_for_ever() -> None:
    """Addresses stand in address books for years: the computation never changes."""
    assert KEYED.address_of(ItemRef(ItemKind.DEAL, "61")) == "ourco+deal61.t40bjjgg@bcc.ourco.example"


@pytest.mark.parametrize("kind", [ItemKind.PERSON, ItemKind.ORGANIZATION, ItemKind.ACTIVITY, ItemKind.USER])
def test_only_what_fits_the_slot_has_an_address(kind: ItemKind) -> None:
    with pytest.raises(ValueError, match="has no address"):
        OURS.address_of(ItemRef(kind, "3"))


@pytest.mark.parametrize(
    ("domain", "local_part", "keys"),
    [
        ("", "ourco", ()),
        ("a..b", "ourco", ()),
        ("b c.example", "ourco", ()),
        ("bcc.example", "", ()),
        ("bcc.example", "our+co", ()),
        ("bcc.example", "our co", ()),
        ("bcc.example", "ourcö", ()),
        ("bcc.example", "ourco", (b"",)),
        ("bcc.example", "ourco", (b"a key of the tests", b"")),
    ],
)
def test_what_makes_no_address_is_refused_at_once(domain: str, local_part: str, keys: tuple[bytes, ...]) -> None:
    with pytest.raises(ValueError):
        SmartBccAddress(domain, local_part, keys)


@given(slot_items)
def test_addresses_of_a_former_key_stay_good_while_it_is_listed(item: ItemRef) -> None:
    former = KEYED.address_of(item)
    both = SmartBccAddress(KEYED.domain, KEYED.local_part, (b"the key from now on", *KEYED.keys))
    new = SmartBccAddress(KEYED.domain, KEYED.local_part, (b"the key from now on",))

    assert both.parse(former) == both.parse(both.address_of(item)) == Target(item)
    assert both.address_of(item) == new.address_of(item) != former
    assert new.parse(former) is None


def test_keys_are_not_shown() -> None:
    assert "a key of the tests" not in repr(KEYED)


def test_a_one_time_address_bears_its_token_and_cannot_be_guessed() -> None:
    ours = SmartBccAddress("bcc.ourco.example", "ourco", alias_key=b"secret")
    address = ours.alias_address("abc123")

    assert ours.parse(address) == ours.parse(address.upper()) == Target(None, "abc123")
    assert ours.parse(address.replace("abc123", "abc124")) is None
    assert ours.parse("ourco+aliasabc123@bcc.ourco.example") is None
    assert SmartBccAddress("bcc.ourco.example", "ourco").parse(address) is None
    assert SmartBccAddress("bcc.ourco.example", "ourco", alias_key=b"other").parse(address) is None
    keyed = SmartBccAddress("bcc.ourco.example", "ourco", (b"k" * 16,), b"secret")
    assert keyed.parse(address) == Target(None, "abc123")
