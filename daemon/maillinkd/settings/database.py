"""`[database]`: the URL as people write it, as SQLAlchemy takes it, and as it may be shown."""

from pathlib import Path
from typing import Annotated
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit

from pydantic import AfterValidator, Field

from maillinkd.settings.sections import Section

SQLITE = ("sqlite", "sqlite+aiosqlite")
POSTGRESQL = ("postgresql", "postgresql+asyncpg")


def _database_url(value: str) -> str:
    # Never quote the value: it may hold a password.
    expected = 'expected "sqlite:////absolute/path", "sqlite:///relative/path" or "postgresql://user@host/database"'
    try:
        url = urlsplit(value)
        _ = url.port
    except ValueError:
        raise ValueError(expected) from None
    if url.scheme.partition("+")[0] in ("sqlite", "postgresql", "postgres") and url.scheme not in SQLITE + POSTGRESQL:
        raise ValueError(f"{expected}; the driver is chosen by maillinkd, so leave it out")
    # SQLAlchemy 2.0 takes a "%" in the path as it stands, 2.1 as an escape.
    other_than_a_path = url.netloc or url.query or url.fragment or "%" in url.path
    if url.scheme in SQLITE and (other_than_a_path or url.path in ("", "/", "/:memory:")):
        raise ValueError('expected a file: "sqlite:////absolute/path" (four slashes) or "sqlite:///relative/path"')
    if url.scheme in POSTGRESQL and not url.path.strip("/"):
        raise ValueError('expected the database\'s name as well: "postgresql://user@host/database"')
    if url.scheme not in SQLITE + POSTGRESQL:
        raise ValueError(expected)
    return value


class DatabaseSettings(Section):
    """`[database]`"""

    # Not in repr: a URL may hold a password.
    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default="sqlite:////var/lib/maillinkd/maillinkd.db", repr=False
    )

    @property
    def is_sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def sqlite_path(self) -> Path | None:
        """The database's file, None on PostgreSQL. A relative one counts from the working directory."""
        return Path(urlsplit(self.url).path[1:]) if self.is_sqlite else None

    def async_url(self) -> str:
        """The URL with the driver that we chose, for SQLAlchemy.

        libpq's `sslmode` becomes `ssl`, as asyncpg calls it.
        """
        if path := self.sqlite_path():
            return f"sqlite+aiosqlite:///{path}"
        url = urlsplit(self.url)
        query = [("ssl" if key == "sslmode" else key, value) for key, value in parse_qsl(url.query)]
        # urlunsplit would drop the "//" of a URL without host (a socket, named in the query).
        options = f"?{urlencode(query, quote_via=quote)}" if query else ""
        return f"postgresql+asyncpg://{url.netloc}{url.path}{options}"

    def shown_url(self) -> str:
        """The URL for people and logs: without its password."""
        url = urlsplit(self.url)
        query = [(key, "***" if "password" in key.lower() else value) for key, value in parse_qsl(url.query)]
        options = f"?{urlencode(query, safe='*/')}" if query else ""
        return f"{url.scheme}://{_without_password(url)}{url.path}{options}"


def _without_password(url: SplitResult) -> str:
    account, at, host = url.netloc.rpartition("@")
    return account.partition(":")[0] + (":***" if ":" in account else "") + at + host
