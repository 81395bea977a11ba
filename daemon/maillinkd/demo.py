"""The demo's mail server: pymap, in this process, with a sample mailbox that anyone on this host may read and add to.

What it holds stands in `config/demo`; an installed package carries a copy. Nothing here is used outside the demo.
"""

import asyncio
import mailbox
from argparse import Namespace
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from proxyprotocol.sock import SocketInfoLocal
from pymap.backend.dict import Config, Login
from pymap.backend.dict.filter import FilterSet
from pymap.backend.dict.mailbox import MailboxSet
from pymap.concurrent import Subsystem
from pymap.imap import IMAPServer
from pymap.parsing.message import AppendMessage
from pymap.parsing.specials.flag import Flag, Seen
from pymap.user import Passwords, UserMetadata
from pysasl.hashing import BuiltinHash

HOST = "127.0.0.1"
PORT = 1143
USER = "anna"
PASSWORD = "demo"  # noqa: S105  # no secret: it stands in config/demo.toml, and the server is on loopback

_SENT = "Sent"


@dataclass(frozen=True, slots=True)
class SampleMail:
    """One message of the sample mailbox."""

    raw: bytes
    """The message with CRLF line ends."""
    received_at: datetime
    """Its INTERNALDATE, UTC: the time in the mbox `From ` line."""


def config_file() -> Path:
    """The demo's configuration, `demo.toml`: the installed package's copy, else the clone's."""
    package = Path(__file__).resolve().parent
    for directory in (package / "demo_data", package.parent.parent / "config"):
        if (directory / "demo.toml").is_file():
            return directory / "demo.toml"
    raise FileNotFoundError("demo.toml is neither in the installed package nor in config/ of a clone")


def items_file() -> Path:
    """The demo's directory of items, JSON Lines for `import items`."""
    return config_file().parent / "demo" / "items.jsonl"


def mail_files() -> dict[str, Path]:
    """The sample mailbox: an mbox file a folder."""
    directory = config_file().parent / "demo"
    return {"INBOX": directory / "inbox.mbox", _SENT: directory / "sent.mbox"}


def read_mbox(path: Path) -> list[SampleMail]:
    """The messages of an mbox file (RFC 4155) whose `From ` lines bear UTC times, in their order.

    Raises FileNotFoundError, or ValueError where a `From ` line has no time.
    """
    if not path.is_file():
        raise FileNotFoundError(path)
    with closing(mailbox.mbox(path, create=False)) as box:
        return [_sample_mail(box.get_bytes(key, from_=True)) for key in box.iterkeys()]


def _sample_mail(text: bytes) -> SampleMail:
    from_line, _, message = text.partition(b"\n")
    asctime = from_line.decode().split(maxsplit=2)[2]
    received_at = datetime.strptime(asctime, "%a %b %d %H:%M:%S %Y").replace(tzinfo=UTC)
    return SampleMail(message.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"), received_at)


@asynccontextmanager
async def serve(
    folders: Mapping[str, Path] | None = None, *, host: str = HOST, port: int = PORT
) -> AsyncIterator[tuple[str, int]]:
    """Serves the mail of `folders` (name to mbox file; default `mail_files()`) by IMAP until the context is left.

    Gives the address it listens on: `port` where that is free, else a free port, so that two demos can run at once;
    who needs to know compares. `USER` logs in with `PASSWORD`. What clients change is forgotten at the end.
    """
    config = _Config(
        Namespace(passlib_cfg=None, proxy_protocol=None),
        host=host,
        port=port,
        tls_enabled=False,
        demo_data=False,
        demo_user=USER,
        demo_password=PASSWORD,
        hash_context=BuiltinHash(rounds=1),  # guarding a published password would only slow the log-in down
        cpu_subsystem=Subsystem.for_asyncio(),
    )
    login = Login(config)
    password = await Passwords(config).hash_password(PASSWORD)
    await login.demo_user_identity.set(UserMetadata(config, USER, password=password))
    config.set_cache[USER] = (await _filled(folders or mail_files()), FilterSet())

    connections = _Connections(IMAPServer(login, config))
    try:
        server = await asyncio.start_server(connections.accept, host, port)
    except OSError:
        server = await asyncio.start_server(connections.accept, host, 0)
    try:
        address: tuple[str, int] = server.sockets[0].getsockname()[:2]
        yield address
    finally:
        server.close()
        await connections.close()
        await server.wait_closed()


class _Config(Config):
    """pymap's, with a greeting that does not look the host's name up."""

    @property
    def greeting(self) -> bytes:
        return b"maillinkd demo"


async def _filled(folders: Mapping[str, Path]) -> MailboxSet:
    """A mailbox with the mail of the files, sent mail marked as read."""
    mailboxes = MailboxSet()
    for name, path in folders.items():
        if name != "INBOX":
            await mailboxes.add_mailbox(name)
        folder = await mailboxes.get_mailbox(name)
        flags: frozenset[Flag] = frozenset({Seen}) if name == _SENT else frozenset()
        for mail in read_mbox(path):
            await folder.append(AppendMessage(mail.raw, mail.received_at, flags))
    return mailboxes


class _Connections:
    """Holds the task of every connection, so that it lives and can be ended.

    pymap's own service lets go of them, and on Python 3.13 an idle one is then collected as garbage.
    """

    def __init__(self, imap_server: IMAPServer) -> None:
        self._imap_server = imap_server
        self._tasks: set[asyncio.Task[None]] = set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes a new connection (the callback of asyncio.start_server)."""
        peer = SocketInfoLocal(writer, unique_id=uuid4().bytes)
        task = asyncio.get_running_loop().create_task(self._imap_server(reader, writer, peer))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def close(self) -> None:
        """Ends every connection with BYE."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a connection of the demo's mail server failed", "exception": error, "task": task}
            task.get_loop().call_exception_handler(context)
