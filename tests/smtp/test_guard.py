"""Limits of connections (reliability.md, connection exhaustion)."""

from ipaddress import ip_network

import pytest

from maillinkd.smtp.guard import ConnectionGuard, Limits, lies_in

ANNA, BEN, RELAY = "192.0.2.1", "192.0.2.2", "198.51.100.7"


def guard(*, total: int = 100, per_client: int = 100, new_per_minute: int = 100) -> ConnectionGuard:
    exempt = ("198.51.100.0/24",)
    return ConnectionGuard(Limits(total=total, per_client=per_client, new_per_minute=new_per_minute, exempt=exempt))


def test_there_are_no_more_connections_than_the_total() -> None:
    door = guard(total=2)

    assert [door.admit(peer, 0.0) for peer in (ANNA, RELAY, BEN)] == [None, None, "max_connections"]
    assert door.connections == 2


def test_a_client_has_no_more_than_its_share_and_others_still_get_in() -> None:
    door = guard(per_client=2)

    answers = [door.admit(peer, 0.0) for peer in (ANNA, ANNA, ANNA, BEN)]

    assert answers == [None, None, "max_connections_per_client", None]


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

    assert [come(now) for now in (100.0, 101.0, 102.0, 161.0)] == [None, None, "max_new_connections_per_minute", None]


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


def test_the_limits_can_be_others_later() -> None:
    door = guard(per_client=1)
    door.admit(ANNA, 0.0)
    door.limit(Limits(total=3, per_client=1, new_per_minute=9, exempt=(f"{ANNA}/32",)))

    assert door.is_exempt(ANNA)
    assert door.admit(ANNA, 0.0) is None
    with pytest.raises(ValueError):
        door.limit(Limits(total=0, per_client=0, new_per_minute=0, exempt=("all",)))
    assert [door.admit(ANNA, 0.0), door.admit(ANNA, 0.0)] == [None, "max_connections"]
    assert door.connections_of(ANNA) == 3


def test_what_is_no_network_is_refused_at_once() -> None:
    with pytest.raises(ValueError):
        ConnectionGuard(Limits(total=1, per_client=1, new_per_minute=1, exempt=("192.0.2.1/8",)))


def test_a_connection_counts_as_that_of_the_client_for_whom_its_peer_speaks() -> None:
    guard = ConnectionGuard(Limits(total=2, per_client=1, new_per_minute=9, exempt=("10.0.0.0/8",)))
    assert guard.admit("10.0.0.1", 0) is guard.admit("10.0.0.1", 0) is None

    assert guard.move("10.0.0.1", "192.0.2.7", 0) is None
    assert guard.move("10.0.0.1", "192.0.2.7", 0) == "max_connections_per_client"
    assert (guard.connections_of("10.0.0.1"), guard.connections_of("192.0.2.7"), guard.connections) == (1, 1, 2)


@pytest.mark.parametrize(
    ("peer", "expected"),
    [("10.1.2.3", True), ("::ffff:10.1.2.3", True), ("2001:db8::1", True), ("192.0.2.7", False), ("", False)],
)
def test_networks(peer: str, expected: bool) -> None:
    assert lies_in(peer, [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]) is expected
