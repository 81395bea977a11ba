"""The file that `init` writes: whatever is put into it, the daemon reads the same."""

import os
import stat
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.cli.config_file import (
    NewClient,
    NewMailbox,
    Place,
    Whole,
    database_beside,
    put,
    read_on_trial,
    text_of,
)
from maillinkd.settings import ConfigurationError, load

TODAY = date(2026, 11, 22)
ANNA = NewMailbox(
    name="anna",
    address="anna@ourco.example",
    owner="anna",
    new_user=True,
    host="imap.ourco.example",
    port=993,
    tls="implicit",
    username="anna@ourco.example",
    source="a test",
    password_file=Path("/run/anna.password"),
)
WHOLE = Whole("sqlite:////var/lib/maillinkd/maillinkd.db", ("ourco.example",))


def test_a_first_file_is_a_whole_configuration(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "maillinkd.toml", None, "anna")

    settings = read_on_trial(place, text_of(ANNA, WHOLE, TODAY))

    assert (place.target, place.is_whole) == (tmp_path / "maillinkd.toml", True)
    assert settings.users["anna"].address == "anna@ourco.example"
    assert settings.users["anna"].admin
    assert settings.mailboxes["anna"].password_file == Path("/run/anna.password")
    assert settings.policy.internal_domains == ("ourco.example",)


def test_the_next_file_is_a_part(tmp_path: Path) -> None:
    main = tmp_path / "maillinkd.toml"
    put(main, text_of(ANNA, WHOLE, TODAY))
    place = Place.of(main, None, "ben")
    ben = replace(ANNA, name="ben", owner="anna", new_user=False, port=143, tls="starttls", folders=("\\All", "Café"))

    settings = read_on_trial(place, text_of(ben, None, TODAY))

    assert (place.target, place.is_whole) == (tmp_path / "conf.d" / "ben.toml", False)
    assert set(settings.mailboxes) == {"anna", "ben"}
    assert (settings.mailboxes["ben"].owner, settings.mailboxes["ben"].folders) == ("anna", ("\\All", "Café"))
    assert not place.target.exists()


def test_what_is_on_trial_takes_the_place_of_what_is_there(tmp_path: Path) -> None:
    main = tmp_path / "maillinkd.toml"
    put(main, text_of(ANNA, WHOLE, TODAY))
    put(tmp_path / "conf.d" / "ben.toml", text_of(replace(ANNA, name="ben", new_user=False), None, TODAY))

    again = text_of(replace(ANNA, name="ben", new_user=False, host="new.ourco.example"), None, TODAY)

    assert read_on_trial(Place.of(main, None, "ben"), again).mailboxes["ben"].host == "new.ourco.example"


def test_an_oauth_client_stands_in_the_file(tmp_path: Path) -> None:
    mailbox = replace(
        ANNA,
        auth="oauth2",
        password_file=None,
        oauth_client="google",
        new_client=NewClient("google", "123.apps.example", Path("/run/google.secret")),
    )

    settings = read_on_trial(Place.of(tmp_path / "m.toml", None, "anna"), text_of(mailbox, WHOLE, TODAY))

    assert (settings.mailboxes["anna"].auth, settings.mailboxes["anna"].oauth_client) == ("oauth2", "google")
    assert settings.oauth_clients["google"].client_id == "123.apps.example"


def test_a_file_elsewhere_stands_for_itself(tmp_path: Path) -> None:
    main = tmp_path / "maillinkd.toml"
    main.write_text("")

    assert Place.of(main, tmp_path / "other.toml", "anna").is_whole
    assert not Place.of(main, tmp_path / "conf.d" / "x.toml", "anna").is_whole


def test_what_is_wrong_is_told_of_the_real_files(tmp_path: Path) -> None:
    place = Place.of(tmp_path / "maillinkd.toml", None, "anna")

    with pytest.raises(ConfigurationError) as caught:
        read_on_trial(place, text_of(replace(ANNA, since="soon"), WHOLE, TODAY))

    assert [(problem.source, problem.key) for problem in caught.value.problems] == [
        (str(place.target), "mailboxes.anna.since")
    ]


NAMES = st.from_regex(r"\A[A-Za-z0-9_.-]{1,64}\Z").filter(lambda name: name not in ("web", "metrics", "smart_bcc"))
PRINTED = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30)


@given(name=NAMES, username=PRINTED, folder=PRINTED.filter(lambda name: not name.startswith("\\")), secret=PRINTED)
def test_whatever_is_written_is_read_again(name: str, username: str, folder: str, secret: str) -> None:
    import tempfile

    mailbox = replace(
        ANNA, name=name, owner=name, username=username, folders=(folder,), password_file=Path("/", secret)
    )
    with tempfile.TemporaryDirectory() as directory:
        place = Place.of(Path(directory, "maillinkd.toml"), None, name)
        read = read_on_trial(place, text_of(mailbox, WHOLE, TODAY)).mailboxes[name]

    assert (read.username, read.folders, read.password_file) == (username, (folder,), Path("/", secret))


def test_the_file_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    os.chown(tmp_path, -1, os.getgid())
    path = tmp_path / "new" / "anna.password"

    put(path, "secret\n")
    put(path, "other\n")

    assert path.read_text() == "other\n"
    if os.getgid() == 0 or os.geteuid() != 0:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to another group")
def test_what_root_writes_the_daemon_may_read(tmp_path: Path) -> None:
    os.chown(tmp_path, -1, 8)
    path = tmp_path / "conf.d" / "anna.toml"

    put(path, "")

    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == (8, 0o640)
    assert (path.parent.stat().st_gid, stat.S_IMODE(path.parent.stat().st_mode)) == (8, 0o750)


def test_nothing_is_left_of_a_file_that_cannot_be_put_there(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()

    with pytest.raises(OSError):
        put(tmp_path / "taken", "text")

    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_the_database_lies_beside_a_configuration_of_one_s_own(tmp_path: Path) -> None:
    assert database_beside(Path("/etc/maillinkd/maillinkd.toml")) == "sqlite:////var/lib/maillinkd/maillinkd.db"
    assert database_beside(Path("/srv/x/m.toml")) == "sqlite:////srv/x/maillinkd.db"


def test_every_key_has_its_sentence_and_no_line_is_too_long() -> None:
    lines = text_of(ANNA, WHOLE, TODAY).splitlines()

    assert "anna@ourco.example, written by `maillinkd init` on 2026-11-22." in lines[0]
    assert [line for line in lines if len(line) > 120] == []


def test_it_is_the_daemon_s_own_reader(tmp_path: Path) -> None:
    main = tmp_path / "maillinkd.toml"
    text = text_of(ANNA, WHOLE, TODAY)
    put(main, text)

    assert read_on_trial(Place.of(main, main, "anna"), text) == load(main, {})
