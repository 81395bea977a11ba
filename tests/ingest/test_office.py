"""What the configuration says of people: who is internal, who owns what, who may change it (linking.md)."""

import pytest

from ingest.scene import office_with
from maillinkd.directory.item import ItemRef
from maillinkd.ingest.office import BccTarget


@pytest.mark.parametrize(
    ("address", "internal"),
    [
        ("anna@ourco.example", True),
        ("anna.k@ourco.example", True),
        ("whoever@ourco.example", True),
        ("x@berlin.ourco.example", True),
        ("ourco+deal61@bcc.ourco.example", True),
        ("x@notourco.example", False),
        ("anna@elsewhere.example", False),
        ("", False),
    ],
)
def test_who_is_internal(address: str, internal: bool) -> None:
    assert office_with().is_internal(address) == internal


def test_a_mailboxes_user_name_is_internal_where_it_is_an_address() -> None:
    office = office_with(mailboxes={"anna2": {"username": "anna@private.example"}})

    assert (office.is_internal("anna@private.example"), office.is_internal("anna2")) == (True, False)


def test_tags_are_ignored_where_the_policy_says_so() -> None:
    plain = office_with(users={"anna": {"aliases": ["a@elsewhere.example"]}})
    ignoring = office_with(users={"anna": {"aliases": ["a@elsewhere.example"]}}, policy={"ignore_plus_tags": True})

    assert [office.owner_of_address("a+x@elsewhere.example") for office in (plain, ignoring)] == [None, "anna"]
    assert [office.compared("a+x@elsewhere.example") for office in (plain, ignoring)] == [
        "a+x@elsewhere.example",
        "a@elsewhere.example",
    ]


@pytest.mark.parametrize(
    ("recipient", "means"),
    [
        ("ourco@bcc.ourco.example", BccTarget(None)),
        ("OURCO+Deal61@BCC.ourco.example", BccTarget(ItemRef.parse("deal:61"))),
        ("ourco+nonsense@bcc.ourco.example", None),
        ("anna@ourco.example", None),
    ],
)
def test_what_a_recipient_means_to_smart_bcc(recipient: str, means: BccTarget | None) -> None:
    assert office_with().recipient(recipient) == means


@pytest.mark.parametrize(
    ("switches", "mailboxes", "auto_link"),
    [
        ({}, {"anna"}, True),
        ({"users": {"anna": {"auto_link": False}}}, {"anna"}, False),
        ({"users": {"anna": {"auto_link": False}}}, set(), False),
        ({"mailboxes": {"anna": {"auto_link": False}}}, {"anna"}, False),
        ({"mailboxes": {"anna": {"auto_link": False}}}, {"anna", "anna2"}, True),
        ({"mailboxes": {"anna": {"auto_link": False}}}, set(), True),
        ({"mailboxes": {"anna": {"auto_link": False}}}, {"removed"}, True),
    ],
    ids=["on", "off for the owner", "off for the owner of Smart Bcc mail", "off for the only mailbox",
         "on in another", "in no mailbox", "in one that is no longer configured"],
)  # fmt: skip
def test_row_6(switches: dict[str, dict[str, object]], mailboxes: set[str], auto_link: bool) -> None:
    assert office_with(**switches).auto_link("anna", mailboxes) == auto_link


def test_row_6_for_a_team_and_for_an_owner_who_is_gone() -> None:
    office = office_with(teams={"support": {"auto_link": False}})

    assert (office.auto_link("support", {"support"}), office.auto_link("removed", {"anna"})) == (False, True)


@pytest.mark.parametrize(
    ("user", "owner", "may"),
    [
        ("anna", "anna", True),
        ("ben", "anna", False),
        ("boss", "anna", True),
        ("boss", "removed", True),
        ("ben", "support", True),
        ("clara", "support", False),
        ("support", "support", False),
        ("removed", "removed", False),
    ],
)
def test_who_may_change_a_thread(user: str, owner: str, may: bool) -> None:
    """L17."""
    assert office_with().may_change(user, owner) == may


def test_whose_mailbox_it_is() -> None:
    office = office_with()

    assert [office.owner_of_mailbox(name) for name in ("anna", "anna2", "support")] == ["anna", "anna", "support"]
    with pytest.raises(KeyError):
        office.owner_of_mailbox("removed")
