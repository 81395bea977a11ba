"""What SIGHUP takes over."""

import pytest

from maillinkd.settings import Settings, changes_that_need_a_restart, without_restart

OLD = {"smart_bcc": {"enabled": True, "domain": "b.example", "local_part": "o", "listen": ["127.0.0.1:25"]}}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        ({}, []),
        ({"log": {"format": "json"}, "users": {"anna": {"address": "a@x.example"}}}, []),
        ({"database": {"url": "sqlite:///other.db"}}, ["database.url"]),
        ({"smart_bcc": OLD["smart_bcc"] | {"listen": ["127.0.0.1:26"]}}, ["smart_bcc.listen"]),
        ({"smart_bcc": OLD["smart_bcc"] | {"enabled": False}}, ["smart_bcc.enabled"]),
        ({"smart_bcc": OLD["smart_bcc"] | {"local_part": "other"}}, []),
    ],
)
def test_the_database_and_the_listeners_need_a_restart(new: dict[str, object], expected: list[str]) -> None:
    old, changed = Settings.model_validate(OLD), Settings.model_validate(OLD | new)

    assert changes_that_need_a_restart(old, changed) == expected
    assert changes_that_need_a_restart(old, without_restart(old, changed)) == []


def test_where_nothing_listens_the_address_may_change() -> None:
    old, new = Settings(), Settings.model_validate({"smart_bcc": {"listen": ["127.0.0.1:1"]}})

    assert changes_that_need_a_restart(old, new) == []


def test_the_rest_is_taken_over() -> None:
    new = OLD | {"database": {"url": "sqlite:///other.db"}, "log": {"format": "json"}}
    old, changed = Settings.model_validate(OLD), Settings.model_validate(new)

    taken = without_restart(old, changed)

    assert (taken.database.url, taken.log.format) == (old.database.url, "json")
