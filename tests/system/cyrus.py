"""A private Cyrus for the tests: a free port of 127.0.0.1, a directory of its own, stopped by its process id.

Nothing of /etc or /var is read or written. Users need not be made: each name is a mailbox of its own from its first
login on, and all have one password. Debian does not install cyrus-imapd beside dovecot-imapd, so its two programs are
unpacked elsewhere (servers.sh).
"""

import imaplib
import os
import pwd
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from maillinkd.imap import utf7
from system.dovecot import PASSWORD, free_ports

UNPACKED = Path("/usr/local/libexec/cyrus-imapd")
COMMON = Path("/usr/lib/cyrus/bin")


def cyrus_path() -> Path | None:
    """The directory of `imapd` and `idled`, None if Cyrus is not installed."""
    for directory in (COMMON, UNPACKED):
        if (directory / "imapd").exists() and (COMMON / "master").exists():
            return directory
    return None


@dataclass(frozen=True)
class Cyrus:
    """A running server. Any user name is a mailbox; all have the same password."""

    directory: Path
    port: int
    password: str = PASSWORD

    @contextmanager
    def client(self, user: str) -> Iterator[imaplib.IMAP4]:
        """A connection of the user's own."""
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=20)
        client.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.authenticate("PLAIN", lambda _: f"\0{user}\0{self.password}".encode())
        try:
            yield client
        finally:
            client.logout()

    def append(self, user: str, messages: Sequence[bytes], folder: str = "INBOX") -> None:
        with self.client(user) as client:
            for message in messages:
                good(client.append(wire(folder), "", imaplib.Time2Internaldate(time.time()), message))

    def create(self, user: str, folder: str) -> None:
        with self.client(user) as client:
            good(client.create(wire(folder)))

    def delete(self, user: str, folder: str) -> None:
        with self.client(user) as client:
            good(client.delete(wire(folder)))

    def expunge(self, user: str, uids: str, folder: str = "INBOX") -> None:
        with self.client(user) as client:
            good(client.select(wire(folder)))
            good(client.uid("STORE", uids, "+FLAGS.SILENT", "(\\Deleted)"))
            good(client.expunge())

    def seen(self, user: str, folder: str = "INBOX") -> str:
        """The numbers of the messages that are marked as read."""
        with self.client(user) as client:
            good(client.select(wire(folder), readonly=True))
            return good(client.search(None, "SEEN"))


def wire(folder: str) -> str:
    """A folder's name as it goes over the wire."""
    return f'"{utf7.encode(folder).decode()}"'


def good(answer: tuple[str, list[object]]) -> str:
    """What the server answered. Raises RuntimeError unless it said OK."""
    word, data = answer
    if word != "OK":
        raise RuntimeError(f"cyrus said {word}: {data}")
    return data[0].decode() if data and isinstance(data[0], bytes) else ""


@contextmanager
def running_cyrus() -> Iterator[Cyrus]:
    """Starts a server, by root or by any user, and stops it. Raises RuntimeError if it does not start."""
    programs = cyrus_path()
    if programs is None:
        raise RuntimeError("cyrus is not installed")
    with TemporaryDirectory(prefix="cyrus-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        server = Cyrus(directory, free_ports(1)[0])
        account = pwd.getpwnam("cyrus") if os.getuid() == 0 else pwd.getpwuid(os.getuid())
        (directory / "imapd.conf").write_text(_settings(directory, account.pw_name))
        (directory / "cyrus.conf").write_text(_services(directory, programs, server.port))
        for part in ("conf", "conf/socket", "spool", "run"):
            (directory / part).mkdir()
        if os.getuid() == 0:
            for path in (directory, *directory.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid)
        whose = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.getuid() == 0 else {}
        with _passwords(directory / "mux"):
            process = subprocess.Popen(
                [str(COMMON / "master"), "-D", "-C", str(directory / "imapd.conf"),
                 "-M", str(directory / "cyrus.conf"), "-p", str(directory / "run" / "pid")],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **whose,
            )  # fmt: skip
            try:
                _wait_for_greeting(process, server.port)
                yield server
            finally:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _settings(directory: Path, user: str) -> str:
    return f"""
cyrus_user: {user}
configdirectory: {directory}/conf
defaultpartition: default
partition-default: {directory}/spool
proc_path: {directory}/run/proc
mboxname_lockpath: {directory}/run/lock
idlesocket: {directory}/run/idle
notifysocket: {directory}/run/notify
lmtpsocket: {directory}/run/lmtp
allowplaintext: yes
sasl_mech_list: PLAIN
sasl_pwcheck_method: saslauthd
sasl_saslauthd_path: {directory}/mux
unixhierarchysep: yes
altnamespace: yes
autocreate_quota: 0
expunge_mode: immediate
delete_mode: immediate
failedloginpause: 0
skiplist_unsafe: yes
"""


def _services(directory: Path, programs: Path, port: int) -> str:
    settings = f"-C {directory}/imapd.conf"
    return f"""
START {{
  recover cmd="{COMMON}/ctl_cyrusdb {settings} -r"
}}
SERVICES {{
  imap cmd="{programs}/imapd {settings}" listen="127.0.0.1:{port}" prefork=1
}}
EVENTS {{
}}
DAEMON {{
  idled cmd="{programs}/idled {settings}"
}}
"""


@contextmanager
def _passwords(path: Path) -> Iterator[None]:
    """saslauthd's end of a socket (user, password, service, realm, each behind its length): one password for all."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        path.chmod(0o777)
        door.listen(50)

        def serve() -> None:
            while True:
                try:
                    asker, _ = door.accept()
                except OSError:  # the door is closed
                    return
                with asker, asker.makefile("rb") as words:
                    said = [words.read(int.from_bytes(words.read(2), "big")) for _ in range(4)]
                    answer = b"OK" if said[1] == PASSWORD.encode() else b"NO"
                    asker.sendall(len(answer).to_bytes(2, "big") + answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            door.shutdown(socket.SHUT_RDWR)
            thread.join(5)


def _wait_for_greeting(process: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"cyrus did not start: exit code {process.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if re.match(rb"\* OK", connection.recv(4)):
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("cyrus does not answer")
