"""The SMTP server for Smart Bcc: takes mail for our own addresses, and nothing else (RFC 5321)."""

import asyncio
import logging
import socket
from collections.abc import Sequence

from maillinkd.smtp.config import ListenerConfig
from maillinkd.smtp.conversation import Conversation
from maillinkd.smtp.counters import Counters
from maillinkd.smtp.door import CheckAuthor, Door, HasRoom, Take

__all__ = ["Listener", "ListenerConfig"]

BACKLOG = 512


class Listener:
    """Sockets, and the door behind them. What it takes, it hands to `take`; a message is answered with 250 after that
    returned.

    Made, started and stopped in one event loop.
    """

    def __init__(
        self,
        config: ListenerConfig,
        take: Take,
        *,
        check_author: CheckAuthor | None = None,
        has_room: HasRoom | None = None,
    ) -> None:
        """`check_author` is asked before the reply to DATA, `has_room` at MAIL.

        Raises OSError when certificate or key can't be read or don't fit, ValueError for a wrong network.
        """
        self._door = Door(config, take, check_author=check_author, has_room=has_room)
        self._servers: list[asyncio.Server] = []

    async def start(self, sockets: Sequence[socket.socket] = ()) -> None:
        """Listens on the configured addresses and on sockets that are bound already (systemd's, for one).

        Raises OSError when an address can't be had; then it listens nowhere.
        """
        # The library logs addresses at INFO and whole lines of mail at DEBUG.
        logging.getLogger("mail.log").setLevel(logging.WARNING)
        loop = asyncio.get_running_loop()
        try:
            for ready in sockets:
                self._servers.append(await loop.create_server(self._connection, sock=ready, backlog=BACKLOG))
            for host, port in self._door.config.listen:
                self._servers.append(await loop.create_server(self._connection, host, port, backlog=BACKLOG))
        except BaseException:
            self._close_servers()
            raise

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """Where it listens, as (host, port)."""
        names = (open_.getsockname() for server in self._servers for open_ in server.sockets)
        return tuple((name[0], name[1]) for name in names if isinstance(name, tuple))

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._door.connections

    @property
    def counters(self) -> Counters:
        """What it has seen since it was made."""
        return self._door.counters

    def reconfigure(self, config: ListenerConfig) -> None:
        """Takes another configuration over for later connections, all but the addresses; reads the certificate again.

        Raises OSError and ValueError as the making of a Listener does, and then keeps the old one.
        """
        self._door.reconfigure(config)

    async def stop(self, drain: float = 30.0) -> None:
        """Takes no new connection, says 421 where no message is under way, and lets the others finish.

        Returns when all clients are gone and nothing is being stored, after `drain` seconds at the latest (and a
        moment for the rest to be cut off).
        """
        self._close_servers()
        await self._door.clear(drain)

    def _connection(self) -> Conversation:
        return Conversation(self._door)

    def _close_servers(self) -> None:
        for server in self._servers:
            server.close()  # not wait_closed(): since Python 3.12.1 it waits for the clients, too
        self._servers.clear()
