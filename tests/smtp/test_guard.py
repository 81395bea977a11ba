"""Limits of connections (reliability.md, connection exhaustion)."""

import pytest

from maillinkd.smtp.guard import ConnectionGuard

ANNA, BEN, RELAY = "192.0.2.1", "192.0.2.2", "198.51.100.7"


def guard(*, total: int = 100, per_client: int = 100, new_per_minute: int = 100) -> ConnectionGuard:
    return ConnectionGuard(
        total=total, per_client=per_client, new_per_minute=new_per_minute, exempt=["198.51.100.0/24"]
    )


def test_there_are_no_more_connections_than_the_total() -> None:
    door = guard(total=2)

    assert [door.admit(peer, 0.0) for peer in (ANNA, RELAY, BEN)] == [None, None, "connections"]
    assert door.connections == 2


def test_a_client_has_no_more_than_its_share_and_others_still_get_in() -> None:
    door = guard(per_client=2)

    answers = [door.admit(peer, 0.0) for peer in (ANNA, ANNA, ANNA, BEN)]

    assert answers == [None, None, "connections_per_client", None]


def test_a_connection_that_ends_makes_room() -> None:
    door = guard(total=1, per_client=1)
    door.admit(ANNA, 0.0)
    door.leave(ANNA)

    assert door.connections == 0
    assert door.admit(ANNA, 0.0) is None


def test_a_client_may_come_so_often_in_a_minute_and_again_in_the_next() -> None:
    door = guard(new_per_minute=2)

    def come(now: float) -> str | None:
        limit = door.admit(ANNA, now)
        if limit is None:
            door.leave(ANNA)
        return limit

    assert [come(now) for now in (100.0, 101.0, 102.0, 161.0)] == [None, None, "new_connections_per_minute", None]


@pytest.mark.parametrize("peer", [RELAY, f"::ffff:{RELAY}", ""])
def test_only_the_total_limits_relays_and_unix_sockets(peer: str) -> None:
    door = guard(per_client=1, new_per_minute=1)

    assert [door.admit(peer, 0.0) for _ in range(3)] == [None, None, None]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(one: str, other: str, same: bool) -> None:
    door = guard(per_client=1)
    door.admit(one, 0.0)

    assert (door.admit(other, 0.0) is not None) is same


def test_other_networks_can_be_exempt_later() -> None:
    door = guard(per_client=1)
    door.admit(ANNA, 0.0)
    door.exempt([f"{ANNA}/32"])

    assert door.admit(ANNA, 0.0) is None
    with pytest.raises(ValueError):
        door.exempt(["all"])
    assert door.admit(ANNA, 0.0) is None


def test_what_is_no_network_is_refused_at_once() -> None:
    with pytest.raises(ValueError):
        ConnectionGuard(total=1, per_client=1, new_per_minute=1, exempt=["192.0.2.1/8"])
