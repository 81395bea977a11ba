"""The database's URL: the driver is ours, and no password shows."""

from pathlib import Path

import pytest

from maillinkd.settings import DatabaseSettings
from settings.written import Write, problems


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/x.db", "sqlite+aiosqlite:////var/lib/x.db"),
        ("sqlite:///var/x.db", "sqlite+aiosqlite:///var/x.db"),
        ("sqlite+aiosqlite:///x.db", "sqlite+aiosqlite:///x.db"),
        ("postgresql://u@h/d", "postgresql+asyncpg://u@h/d"),
        ("postgresql+asyncpg://u:p%40@h:5433/d", "postgresql+asyncpg://u:p%40@h:5433/d"),
        ("postgresql://u@h/d?sslmode=require", "postgresql+asyncpg://u@h/d?ssl=require"),
        ("postgresql:///d?host=/run/postgresql", "postgresql+asyncpg:///d?host=%2Frun%2Fpostgresql"),
    ],
)
def test_the_driver_is_chosen_by_us(url: str, expected: str) -> None:
    assert DatabaseSettings(url=url).async_url() == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////var/lib/x.db", Path("/var/lib/x.db")),
        ("sqlite:///var/a b.db", Path("var/a b.db")),
        ("postgresql://u@h/d", None),
    ],
)
def test_the_file_of_an_sqlite_database(url: str, expected: Path | None) -> None:
    assert DatabaseSettings(url=url).sqlite_path() == expected


def test_sqlalchemy_sees_the_same_file_and_server() -> None:
    engine = pytest.importorskip("sqlalchemy").engine

    url = engine.make_url(DatabaseSettings(url="sqlite:///var/a b.db").async_url())
    assert url.database == "var/a b.db"

    url = engine.make_url(DatabaseSettings(url="postgresql:///d?host=/run/postgresql").async_url())
    assert (url.database, dict(url.query)) == ("d", {"host": "/run/postgresql"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite://", "expected a file"),
        ("sqlite:///", "expected a file"),
        ("sqlite:///:memory:", "expected a file"),
        ("sqlite://relative.db", "expected a file"),
        ("sqlite:///x.db?mode=ro", "expected a file"),
        ("sqlite:///a%20b.db", "expected a file"),
        ("postgresql://u:canary@h", "expected the database's name"),
        ("postgres://u:canary@h/d", "the driver is chosen by maillinkd"),
        ("postgresql+psycopg://u:canary@h/d", "the driver is chosen by maillinkd"),
        ("mysql://u:canary@h/d", 'expected "sqlite:'),
        ("postgresql://u:canary@h:port/d", 'expected "sqlite:'),
        ("/var/lib/x.db", 'expected "sqlite:'),
    ],
)
def test_another_url_is_refused_and_not_shown(write: Write, url: str, expected: str) -> None:
    found = problems(write(f'[database]\nurl = "{url}"'))

    assert expected in found["database.url"]
    assert "canary" not in found["database.url"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://u:canary@h:5432/d", "postgresql://u:***@h:5432/d"),
        ("postgresql://h/d?password=canary&host=/run", "postgresql://h/d?password=***&host=/run"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("sqlite:////x.db", "sqlite:////x.db"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, expected: str) -> None:
    database = DatabaseSettings(url=url)

    assert database.shown_url() == expected
    assert "canary" not in repr(database)
