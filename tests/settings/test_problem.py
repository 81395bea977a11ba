"""A problem says where it stands: the file or variable, and the key as TOML writes it."""

import pytest

from maillinkd.settings import ConfigurationError, KeyPath, Problem, Sources, shown_key


def test_an_error_tells_all_problems_a_line_each() -> None:
    error = ConfigurationError([Problem("f", "a.b", "expected x"), Problem("g", "", "expected y")])

    assert str(error) == "f: a.b: expected x\ng: expected y"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("mailboxes", "anna", "port"), "mailboxes.anna.port"),
        (("mailboxes", "anna.k", "folders", 1), 'mailboxes."anna.k".folders[1]'),
        (("users", "\u00fc"), 'users."\u00fc"'),
        (("users", "\u4e2d \u6587"), 'users."\u4e2d \u6587"'),
        (("users", 'a"b\\c'), 'users."a\\"b\\\\c"'),
        (("users", "a\x1b[1m\u00e9\u202e"), 'users."a\\u001b[1m\u00e9\\u202e"'),
        (("users", "\U000e0001\udcff"), 'users."\\U000e0001\\udcff"'),
        ((), ""),
    ],
)
def test_a_key_is_shown_as_toml_writes_it(path: KeyPath, expected: str) -> None:
    assert shown_key(path) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (("mailboxes", "anna", "port"), "environment"),
        (("mailboxes", "anna", "host"), "anna.toml"),
        (("mailboxes", "anna", "folders", 0), "anna.toml"),
        (("mailboxes", "ben"), "main.toml"),
    ],
)
def test_a_key_that_nobody_set_has_the_source_of_its_table(path: KeyPath, expected: str) -> None:
    keys = {("mailboxes", "anna"): "anna.toml", ("mailboxes", "anna", "port"): "environment"}

    assert Sources("main.toml", keys).of(path) == expected
