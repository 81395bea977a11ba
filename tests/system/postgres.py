"""A private PostgreSQL for the tests: on a free port of 127.0.0.1, in a directory of its own, durable as in earnest.

Two fixtures: `postgres_server` (one a test session) and `postgres_url` (a fresh, empty database a test).
"""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

READY = "database system is ready to accept connections"
START_SECONDS = 60.0
STOP_SECONDS = 20.0
USER = "maillinkd"


def binaries() -> Path | None:
    """The directory that holds initdb and postgres, or None where PostgreSQL is not installed.

    Debian keeps them out of PATH, one directory a major version; the newest is taken.
    """
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    return max(versions, key=lambda path: int(path.parent.name), default=None)


class PostgresServer:
    """One server process, started and stopped by its pid; as root it runs as another user, for it refuses root."""

    def __init__(self, bin_directory: Path) -> None:
        self._bin = bin_directory
        self._home = Path(tempfile.mkdtemp(prefix="maillinkd-postgres-"))
        self._account = _account()
        if self._account is not None:
            os.chown(self._home, self._account.pw_uid, self._account.pw_gid)
        self._names = count(1)
        self._process: subprocess.Popen[str] | None = None
        self._log: deque[str] = deque(maxlen=50)
        self.port = 0
        self._run(
            "initdb", "--pgdata", str(self._home / "data"), "--username", USER,
            "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync",
        )  # fmt: skip

    def start(self) -> None:
        """Starts the server and returns when it accepts connections; a second start takes the first one's port."""
        for _ in range(3):
            self.port = self.port or _free_port()
            if self._try_start():
                return
            self.port = 0  # somebody took the port between our look and the server's bind
        raise RuntimeError("PostgreSQL did not start:\n" + "".join(self._log))

    def stop(self) -> None:
        """Fast shutdown: sessions are cut, what was committed stays. Doing it twice does no harm."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(STOP_SECONDS)

    def remove(self) -> None:
        """Stops the server and deletes its files."""
        self.stop()
        shutil.rmtree(self._home)

    def create_database(self) -> str:
        """Creates an empty database and returns its URL."""
        name = f"test_{next(self._names)}"
        self.execute(f"CREATE DATABASE {name}")
        return f"postgresql://{USER}@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Drops a database, also while somebody is still connected to it."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Runs one statement in psql, from outside of any pool under test; returns its unadorned output."""
        return self._run(
            "psql", "--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--dbname", database,
            "--no-psqlrc", "--quiet", "--tuples-only", "--no-align",
            "--set", "ON_ERROR_STOP=1", "--command", statement,
        )  # fmt: skip

    def _try_start(self) -> bool:
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self._home),
            "fsync": "on",
            "lc_messages": "C",
        }
        # The server dies with us, also when pytest is killed: the signal is set after the change of user.
        self._process = process = subprocess.Popen(
            [
                *self._step_down("--pdeathsig", "INT"), str(self._bin / "postgres"),
                "-D", str(self._home / "data"), "-p", str(self.port),
                *(f"--{name}={value}" for name, value in settings.items()),
            ],
            cwd=self._home, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        ready, ended = threading.Event(), threading.Event()
        threading.Thread(target=self._listen, args=(process, ready, ended), daemon=True).start()
        if not ready.wait(START_SECONDS):
            self.stop()
            return False
        return not ended.is_set()

    def _listen(self, process: subprocess.Popen[str], ready: threading.Event, ended: threading.Event) -> None:
        """Reads the server's log to its end, so that the server never waits for us; says when it is ready."""
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                self._log.append(line)
                if READY in line:
                    ready.set()
        ended.set()
        ready.set()

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            [*self._step_down(), str(self._bin / program), *arguments],
            cwd=self._home, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed ({done.returncode}): {done.stderr.strip()}")
        return done.stdout.strip()

    def _step_down(self, *options: str) -> list[str]:
        if self._account is not None:
            user = (f"--reuid={self._account.pw_uid}", f"--regid={self._account.pw_gid}", "--clear-groups")
            return ["setpriv", *user, *options]
        return ["setpriv", *options] if options else []


def _account() -> pwd.struct_passwd | None:
    """The user to step down to when we are root; None when we are not."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One PostgreSQL for the whole session. A test that stops it starts it again."""
    bin_directory = binaries()
    if bin_directory is None:
        pytest.skip("PostgreSQL is not installed (no initdb)")
    server = PostgresServer(bin_directory)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """The URL of an empty database, `postgresql://…` as in the configuration; dropped after the test."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)
