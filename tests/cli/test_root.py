"""`maillinkd` itself."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from cli.shell import SOURCE, run


def test_it_says_which_version_it_is() -> None:
    ran = run(["--version"])

    assert (ran.code, ran.output) == (0, f"maillinkd {version('maillinkd')}\n")


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["threads", "list", "--help"]])
def test_what_needs_no_database_does_not_wait_for_one(arguments: list[str]) -> None:
    """Neither SQL nor the doors' libraries nor the settings are imported."""
    program = (
        "import sys\nfrom maillinkd.cli import main\n"
        f"code = main({arguments!r})\n"
        "heavy = {'sqlalchemy', 'aioimaplib', 'aiosmtpd', 'structlog', 'maillinkd.settings'} & set(sys.modules)\n"
        "sys.exit(f'{code} {heavy}' if code or heavy else 0)"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={"PYTHONPATH": str(SOURCE)}, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["fly"], ["threads", "fly"], ["--colour"], ["run", "--fast"]])
def test_a_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    ran = run(arguments)

    assert ran.code == 2
    assert "--help" in ran.complaint


def test_help_ends_with_examples() -> None:
    ran = run(["--help"])

    assert ran.output.splitlines()[-1].startswith("    maillinkd ")
