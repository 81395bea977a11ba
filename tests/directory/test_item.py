"""Items and their names (linking.md, Words)."""

import pytest

from maillinkd.directory.item import Item, ItemKind, ItemRef, is_open

DEAL, LEAD, PROJECT = (ItemRef(kind, "1") for kind in (ItemKind.DEAL, ItemKind.LEAD, ItemKind.PROJECT))


@pytest.mark.parametrize(
    ("about", "item", "converted", "open_"),
    [
        ("a deal is open", Item(DEAL, status="open"), False, True),
        ("a deal of which nothing is said is open", Item(DEAL), False, True),
        ("a won deal is closed", Item(DEAL, status="won"), False, False),
        ("a lost deal is closed", Item(DEAL, status="lost"), False, False),
        ("a deleted deal is closed", Item(DEAL, status="open", deleted=True), False, False),
        ("an archived deal is closed", Item(DEAL, status="open", archived=True), False, False),
        ("a lead is open", Item(LEAD), False, True),
        ("an archived lead is closed", Item(LEAD, archived=True), False, False),
        ("a converted lead is closed", Item(LEAD), True, False),
        ("a project is open", Item(PROJECT, status="open"), False, True),
        ("a completed project is closed", Item(PROJECT, status="completed"), False, False),
        ("a canceled project is closed", Item(PROJECT, status="canceled"), False, False),
        ("an activity is never open", Item(ItemRef(ItemKind.ACTIVITY, "1")), False, False),
    ],
)
def test_what_is_open(about: str, item: Item, converted: bool, open_: bool) -> None:
    kind, status = item.ref.kind, item.status
    actual = is_open(kind, status, deleted=item.deleted, archived=item.archived, converted=converted)

    assert actual == open_, about


@pytest.mark.parametrize("text", ["deal:61", "lead:adf21080-0e10-11eb-879b-05d71fb426ec", "project:A_b-9"])
def test_a_name_is_read_as_it_is_written(text: str) -> None:
    assert str(ItemRef.parse(text)) == text


def test_ids_are_compared_case_insensitively_and_shown_as_they_came() -> None:
    ref = ItemRef.parse("Deal:AbC")

    assert (str(ref), ref.key) == ("deal:AbC", "abc")


@pytest.mark.parametrize("text", ["deal", "deal:", "deal:a b", "deal:" + "x" * 65, "boat:1", ":1", "deal:ä"])
def test_what_is_no_name_is_refused_with_what_was_expected(text: str) -> None:
    with pytest.raises(ValueError, match="is no item"):
        ItemRef.parse(text)
