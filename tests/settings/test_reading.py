"""Which files are read, and what comes of several."""

from pathlib import Path

import pytest

from maillinkd.settings import ConfigurationError, Settings, load, reading
from settings.written import ANNA, Write, problems


def test_the_file_given_comes_before_the_environment_s(write: Write, tmp_path: Path) -> None:
    given = write('[log]\nformat = "json"')

    assert load(given, {"MAILLINKD_CONFIG": "/nowhere"}).log.format == "json"


def test_the_environment_names_the_file(write: Write) -> None:
    path = write('[log]\nformat = "json"')

    assert load(environ={"MAILLINKD_CONFIG": str(path)}).log.format == "json"


def test_without_both_it_is_in_etc(monkeypatch: pytest.MonkeyPatch, write: Write) -> None:
    assert str(reading.DEFAULT_FILE) == "/etc/maillinkd/maillinkd.toml"

    monkeypatch.setattr(reading, "DEFAULT_FILE", write('[log]\nformat = "json"'))

    assert load(environ={}).log.format == "json"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "no such file"),
        (b"[log\n", "expected TOML: Expected ']' at the end of a table declaration (at line 1, column 5)"),
        (b"# \xff", "expected UTF-8, found another byte at offset 2"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, expected: str) -> None:
    path = tmp_path / "maillinkd.toml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    assert str(raised.value).startswith(f"{path}: {expected}")


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected a readable file: Is a directory"):
        load(tmp_path, {})


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "maillinkd.toml"
    path.write_bytes(b'\xef\xbb\xbf[log]\nformat = "json"')

    assert load(path, {}).log.format == "json"


def test_an_endless_nesting_is_an_error_not_a_crash(write: Write) -> None:
    with pytest.raises(ConfigurationError):
        load(write("x = " + "[" * 5_000 + "]" * 5_000), {})


def test_one_mailbox_a_file(write: Write) -> None:
    path = write(
        '[users.anna]\naddress = "anna@ourco.example"\n[users.ben]\naddress = "ben@ourco.example"',
        anna='[mailboxes.anna]\nhost = "a.example"\nusername = "a"',
        ben='[mailboxes.ben]\nhost = "b.example"\nusername = "b"',
    )

    settings = load(path, {})

    assert {name: mailbox.host for name, mailbox in settings.mailboxes.items()} == {
        "anna": "a.example",
        "ben": "b.example",
    }
    assert settings.source_of("mailboxes", "ben", "host") == str(path.parent / "conf.d" / "ben.toml")


def test_a_key_set_in_two_files_names_both(write: Write) -> None:
    path = write(ANNA, extra='[mailboxes.anna]\nhost = "other.example"')

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    assert str(raised.value) == (
        f"{path.parent / 'conf.d' / 'extra.toml'}: mailboxes.anna.host: "
        f"is set in {path} as well: expected it in one file"
    )


def test_a_list_is_not_merged_with_another(write: Write) -> None:
    path = write('[policy]\ninternal_domains = ["a.example"]', more='[policy]\ninternal_domains = ["b.example"]')

    assert list(problems(path)) == ["policy.internal_domains"]


def test_hidden_and_other_files_of_conf_d_are_left_alone(write: Write) -> None:
    path = write("", **{".hidden": "broken"})
    (path.parent / "conf.d" / "anna.toml~").write_text("broken")

    assert load(path, {}) == Settings()


def test_a_broken_file_of_conf_d_is_named_together_with_others(write: Write) -> None:
    path = write("", one="broken", two="[broken")

    with pytest.raises(ConfigurationError) as raised:
        load(path, {})

    assert [Path(problem.source).name for problem in raised.value.problems] == ["one.toml", "two.toml"]


def test_everything_wrong_is_told_at_once_each_with_its_file(write: Write) -> None:
    path = write("[log]\nformat = 'x'", ben="[mailboxes.ben]\nport = 'x'")

    with pytest.raises(ConfigurationError) as raised:
        load(path, {"MAILLINKD__WEB__PORT": "80"})

    ben = str(path.parent / "conf.d" / "ben.toml")
    assert {(problem.source, problem.key) for problem in raised.value.problems} == {
        (str(path), "log.format"),
        (ben, "mailboxes.ben.host"),
        (ben, "mailboxes.ben.username"),
        (ben, "mailboxes.ben.port"),
        ("environment variable MAILLINKD__WEB__PORT", "web.port"),
    }
