"""A shell with an empty database: migrating one takes longer than most tests, so it is copied."""

import shutil
from pathlib import Path

import pytest

from cli.shell import Shell


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shell = Shell(tmp_path_factory.mktemp("empty"))
    shell.good("db", "upgrade")
    return shell.directory / "mail.db"


@pytest.fixture
def shell(tmp_path: Path, empty_database: Path) -> Shell:
    """An empty database."""
    shutil.copy(empty_database, tmp_path / "mail.db")
    return Shell(tmp_path)


@pytest.fixture
def office(shell: Shell) -> Shell:
    """Carla of Client Ltd with one open deal, deal:61, and her first mail, thread 1."""
    from cli.shell import mail

    shell.import_items()
    shell.import_mail(mail())
    return shell
