"""Secrets are read anew each time, from where the configuration says."""

from pathlib import Path

import pytest

from maillinkd.settings import ConfigurationError, load
from settings.written import ANNA, Write, secret


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"correct horse", "correct horse"),
        (b"correct horse\n", "correct horse"),
        (b"correct horse\r\nsecond line\n", "correct horse"),
        (b" spaces stay \n", " spaces stay "),
        ("pässwörd\n".encode(), "pässwörd"),
    ],
)
def test_a_password_is_the_first_line_of_its_file(
    write: Write, tmp_path: Path, content: bytes, expected: str
) -> None:
    path = secret(tmp_path / "secret", content)
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})

    assert settings.read_password("anna", {}) == expected


def test_a_password_is_read_anew_each_time(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "secret", b"old\n")
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})
    secret(path, b"new\n")

    assert settings.read_password("anna", {}) == "new"


def test_a_password_comes_from_a_variable(write: Write) -> None:
    settings = load(write(f"{ANNA}password_env = 'IMAP_PASSWORD'"), {})

    assert settings.read_password("anna", {"IMAP_PASSWORD": "correct horse"}) == "correct horse"


def test_a_password_comes_from_the_systemd_credential_of_the_mailbox_s_name(write: Write, tmp_path: Path) -> None:
    (tmp_path / "credentials").mkdir()
    secret(tmp_path / "credentials" / "anna")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    settings = load(write(ANNA), environ)

    assert settings.read_password("anna", environ) == "correct horse"
    settings.require_secrets(["anna"], environ=environ)


def test_the_key_of_addresses_is_bytes_of_a_file(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "key", b"\x00\xff" * 16 + b"\n")
    settings = load(write(f"[smart_bcc]\naddress_key_file = '{path}'"), {})

    assert settings.read_address_keys() == (b"\x00\xff" * 16,)
    assert load(write(""), {}).read_address_keys() == ()


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"the key from now on\nthe key before this\n", (b"the key from now on", b"the key before this")),
        (b"the key from now on\r\n\r\nthe key before this", (b"the key from now on", b"the key before this")),
        (b"\x00binary bytes of 32\nor more octets", (b"\x00binary bytes of 32\nor more octets",)),
    ],
)
def test_a_file_of_text_holds_a_key_a_line(
    write: Write, tmp_path: Path, content: bytes, keys: tuple[bytes, ...]
) -> None:
    path = secret(tmp_path / "key", content)

    assert load(write(f"[smart_bcc]\naddress_key_file = '{path}'"), {}).read_address_keys() == keys


@pytest.mark.parametrize("content", [b"guess me\n", b"a key that is long enough\nguess me\n", b"\n"])
def test_a_short_key_of_addresses_is_refused(write: Write, tmp_path: Path, content: bytes) -> None:
    path = secret(tmp_path / "key", content)
    settings = load(write(f"[smart_bcc]\naddress_key_file = '{path}'"), {})

    with pytest.raises(ConfigurationError, match="expected keys of 16 bytes or more"):
        settings.require_secrets([], smart_bcc=True)

    settings.require_secrets([], smart_bcc=False)


def test_a_secret_that_everyone_can_read_is_warned_of(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "secret")
    settings = load(write(f"{ANNA}password_file = '{path}'"), {})

    assert settings.warnings() == ()

    path.chmod(0o644)

    (warning,) = settings.warnings()
    assert f"mailboxes.anna.password_file: {path} can be read by every user of this machine" in warning


def test_a_key_that_everyone_can_read_is_warned_of(write: Write, tmp_path: Path) -> None:
    path = secret(tmp_path / "key")
    path.chmod(0o644)

    (warning,) = load(write(f"[oauth]\nkey_file = '{path}'"), {}).warnings()

    assert f"{path} can be read by every user of this machine" in warning
