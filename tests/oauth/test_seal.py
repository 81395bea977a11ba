"""Tokens at rest: unreadable without the key, and the key readable to its owner alone."""

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from maillinkd.oauth.seal import Seal, make_key
from maillinkd.oauth.token import TokenError

VALUES = {"refresh_token": "canary-7d1f", "expires_at": None}


def test_what_is_sealed_can_be_opened_with_the_key_alone(tmp_path: Path) -> None:
    key = make_key(tmp_path / "state" / "oauth.key")
    sealed = Seal(key).close(VALUES)

    assert b"canary" not in sealed
    assert Seal((tmp_path / "state" / "oauth.key").read_bytes()).open(sealed) == VALUES
    with pytest.raises(TokenError, match="another key"):
        Seal(Fernet.generate_key()).open(sealed)


def test_a_sealed_token_that_was_changed_is_none() -> None:
    seal = Seal(Fernet.generate_key())
    sealed = bytearray(seal.close(VALUES))
    sealed[20] ^= 1

    with pytest.raises(TokenError):
        seal.open(bytes(sealed))


def test_a_new_key_in_the_first_line_seals_and_the_old_one_below_it_goes_on_to_open() -> None:
    old, new = Fernet.generate_key(), Fernet.generate_key()
    both = Seal(new + b"\n" + old + b"\n")

    assert both.open(Seal(old).close(VALUES)) == VALUES
    assert Seal(new).open(both.close(VALUES)) == VALUES


@pytest.mark.parametrize("content", [b"", b"hunter2", b"\xff" * 44])
def test_a_file_that_holds_no_key_is_refused_without_being_quoted(content: bytes) -> None:
    with pytest.raises(TokenError) as caught:
        Seal(content)

    assert "hunter2" not in str(caught.value)


def test_a_key_file_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "oauth.key"
    make_key(path)
    before = path.read_bytes()

    with pytest.raises(FileExistsError):
        make_key(path)
    assert path.read_bytes() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["oauth.key"]
