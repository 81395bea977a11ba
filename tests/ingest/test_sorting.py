"""Smart Bcc: whose mail it is, and to which items it goes (linking.md L14, L16)."""

import pytest

from ingest.scene import (
    ANNA,
    CARLA,
    CLIENT,
    OTHER_DEAL,
    STRANGER,
    UNIVERSAL,
    Scene,
    bcc,
    hours,
    letter,
    office_with,
    received,
    slot,
)


async def test_mail_of_a_stranger_waits_in_quarantine(either: Scene) -> None:
    """L14."""
    raw = letter("a@x", sender=STRANGER, to=CARLA)

    await either.deliver(received(raw, bcc("deal61"), sender=STRANGER))

    (held,) = await either.held()
    assert (held.reason, held.message_id, held.channel, held.author) == (
        "smart_bcc_unknown_sender", "<a@x>", "smart_bcc", STRANGER,
    )  # fmt: skip
    assert (await either.threads(), await either.count("inbound")) == ([], 0)


@pytest.mark.parametrize("sender", ["Anna.K@ourco.example", "Anna <anna@OURCO.example>"])
async def test_a_users_aliases_are_his_own(scene: Scene, sender: str) -> None:
    await scene.deliver(received(letter("a@x", sender=sender, to=CARLA)))

    assert (await scene.thread()).owner == "anna"


async def test_mail_with_two_authors_is_nobodys(scene: Scene) -> None:
    await scene.deliver(received(letter("a@x", sender=f"{ANNA}, boss@ourco.example", to=CARLA)))

    assert [held.reason for held in await scene.held()] == ["smart_bcc_unknown_sender"]


async def test_mail_is_not_believed_where_authentication_is_required(scene: Scene) -> None:
    """Until SPF and DKIM are checked, that is all mail."""
    scene.house.office = office_with(smart_bcc={"require_authentication": True})

    await scene.deliver(received(letter("a@x", sender=ANNA, to=CARLA)))

    assert [(held.reason, held.author) for held in await scene.held()] == [("smart_bcc_unauthenticated", ANNA)]
    assert await scene.threads() == []


async def test_mail_of_several_users_in_one_batch_goes_to_each(scene: Scene) -> None:
    await scene.deliver(
        received(letter("a@x", sender=ANNA, to=CARLA)), received(letter("b@x", sender="ben@ourco.example", to=CARLA))
    )

    assert sorted(thread.owner for thread in await scene.threads()) == ["anna", "ben"]


async def test_one_mail_to_several_addresses_is_one_message_and_a_copy_for_each_further_item(either: Scene) -> None:
    """L16 (c): the first item in order of RCPT has the message; an item that is named twice has one."""
    await either.know(*CLIENT, OTHER_DEAL)
    recipients = [UNIVERSAL, bcc("deal61"), bcc("DEAL62"), bcc("deal61"), bcc("Deal62"), "nobody@bcc.ourco.example"]

    await either.deliver(received(letter("a@x", sender=ANNA, to=CARLA), *recipients))

    found = {slot(thread): thread.reason for thread in await either.threads()}
    assert found == {"deal:61": "smart_bcc_explicit", "deal:62": "smart_bcc_explicit"}
    assert await either.count("message") == 2


async def test_a_retry_of_mail_without_id_and_date_is_not_filed_twice(either: Scene) -> None:
    """Its made id holds the time at which it was received (T5), and a retry comes later."""
    raw = letter(None, sender=ANNA, to=CARLA, date=None)
    await either.deliver(received(raw))
    await either.deliver(received(raw, at=hours(3)), received(raw, at=hours(4)))
    assert [len(thread.message_ids) for thread in await either.threads()] == [1]

    await either.deliver(received(raw, bcc("deal61"), at=hours(5)))  # another envelope

    assert await either.count("message") == 2


async def test_mail_that_is_held_may_come_again(scene: Scene) -> None:
    """So that its sender can be let in, and send it once more."""
    raw = letter(None, sender=STRANGER, to=CARLA, date=None)
    await scene.deliver(received(raw))

    assert (await scene.count("filed_mail"), len(await scene.held())) == (0, 1)
