"""A program that prints a secret: no shell reads its arguments, and it ends in time."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from maillinkd.settings import SecretUnavailable, command, load
from settings.written import ANNA, Write


def test_a_password_comes_from_a_command_that_no_shell_reads(write: Write) -> None:
    script = "import sys; print(sys.argv[1]); print('second line')"
    settings = load(write(f"{ANNA}password_command = ['{sys.executable}', '-c', \"{script}\", '$(id) ; x']"), {})

    assert settings.read_password("anna", {}) == "$(id) ; x"


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("raise SystemExit(3)", "the command failed with exit code 3: no message"),
        ("import sys; print('canary'); sys.exit('gpg: \\x1b[1mno key')", "exit code 1: gpg: ?[1mno key"),
        ("print()", "expected the password in the first line of the command"),
        ("import sys; sys.stdout.buffer.write(b'canary\\xff')", "expected UTF-8 in the first line of the command"),
    ],
)
def test_a_command_that_fails_says_why_and_not_what_it_printed(write: Write, script: str, expected: str) -> None:
    settings = load(write(ANNA), {})
    command = (sys.executable, "-c", script)
    settings.mailboxes["anna"] = settings.mailboxes["anna"].model_copy(update={"password_command": command})

    with pytest.raises(SecretUnavailable) as raised:
        settings.read_password("anna", {})

    assert expected in str(raised.value)
    assert "canary" not in str(raised.value)


def test_a_command_that_hangs_is_ended_with_its_children(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "COMMAND_SECONDS", 1)
    pids = tmp_path / "pids"
    script = tmp_path / "hang"
    # The child keeps the pipe open: killing the shell alone would leave the reader waiting.
    script.write_text(f"#!/bin/sh\nsleep 300 &\necho $! > {pids}\nwait\n")
    script.chmod(0o700)
    settings = load(write(f"{ANNA}password_command = ['{script}']"), {})
    began = time.monotonic()

    with pytest.raises(SecretUnavailable, match="did not finish within 1 s"):
        settings.read_password("anna", {})

    assert time.monotonic() - began < 60
    assert _is_gone(int(pids.read_text()))


def _is_gone(pid: int) -> bool:
    """True once the process has ended (or waits for its parent to notice)."""
    for _ in range(1_000):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
        if not state.strip() or state.startswith("Z"):
            return True
    return False
