"""How a test connects."""

from datetime import UTC, datetime, timedelta

from maillinkd.imap.account import Account, Deadlines
from maillinkd.imap.folders import Folder
from maillinkd.oauth.token import AccessToken
from system.imap_peer import FakeServer, Proxy

INBOX = Folder("INBOX", b"INBOX", "/", frozenset())
FIELDS = ("From", "Subject")
SHORT = Deadlines(connect=0.3, command=0.3, search=0.3, bytes_per_second=1e9, idle_done=0.3, logout=0.3)


def account(server: FakeServer | Proxy, **changes: object) -> Account:
    settings = {"name": "anna", "host": "127.0.0.1", "port": server.port, "tls": "none"}
    return Account(**{**settings, "username": "anna", "password": "secret", **changes})  # type: ignore[arg-type]


class Source:
    """Tokens in a row; the last one stays. An exception in their place is raised."""

    def __init__(self, *tokens: str | Exception, life: float = 3600) -> None:
        self.tokens = list(tokens)
        self.life = life
        self.asked = 0
        self.refused: list[str] = []

    async def current(self) -> AccessToken:
        self.asked += 1
        first = self.tokens[0]
        if isinstance(first, Exception):
            raise first
        now = datetime.now(UTC)
        return AccessToken(first, now, now + timedelta(seconds=self.life))

    async def renewed(self, refused: AccessToken) -> AccessToken:
        self.refused.append(refused.secret)
        if len(self.tokens) > 1:
            self.tokens.pop(0)
        return await self.current()
