"""A secret that a program prints: `password_command`, `token_command`."""

import os
import re
import shutil
import signal
import subprocess

from maillinkd.settings.secret import Fault

COMMAND_SECONDS = 30
"""How long a command may take."""


def require_program(command: tuple[str, ...], fault: Fault) -> None:
    """Raises `fault` if the program is not there, or may not be run. Does not run it."""
    if shutil.which(command[0]) is None:
        raise fault(f"program {command[0]} is not found or not executable")


def output_of(command: tuple[str, ...], fault: Fault) -> bytes:
    """What the command prints on stdout. Raises `fault` where it fails or takes longer than COMMAND_SECONDS."""
    require_program(command, fault)
    try:
        return _run(command)
    except (OSError, subprocess.SubprocessError) as error:
        raise fault(_failure(error)) from error


def _run(command: tuple[str, ...]) -> bytes:
    """What the command prints. Its whole process group ends with the time: a helper's children hold the pipe open."""
    with subprocess.Popen(  # noqa: S603  # the admin's own command, without a shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            output, complaint = process.communicate(timeout=COMMAND_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command[0], stderr=complaint)
    return output


def _failure(error: Exception) -> str:
    """Names the failure; never the arguments nor what was printed on stdout."""
    match error:
        case subprocess.TimeoutExpired():
            return f"the command did not finish within {COMMAND_SECONDS} s"
        case subprocess.CalledProcessError():
            lines = bytes(error.stderr).decode(errors="replace").strip().splitlines()
            complaint = re.sub(r"[^\x20-\x7e]", "?", lines[-1])[:200] if lines else "no message"
            return f"the command failed with exit code {error.returncode}: {complaint}"
        case OSError():
            return f"the command cannot be run: {error.strerror}"
    return "the command failed"
