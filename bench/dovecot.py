"""A private Dovecot for the measurements: one mailbox, plain text on loopback, in a directory of its own."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

USER = "anna"
PASSWORD = "bench"

CONFIGURATION = """\
base_dir = {home}/run
state_dir = {home}/run
log_path = {home}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:{maildir}:INDEX={home}/index
mail_max_userip_connections = 50
first_valid_uid = 1
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={home}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
{users}{extra}"""


def program() -> str | None:
    """Where dovecot is, or None where it is not installed."""
    return shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


class Dovecot:
    """Serves a Maildir as USER's INBOX. Its indexes lie apart, so that they can be forgotten."""

    def __init__(self, home: Path, maildir: Path, extra: str = "") -> None:
        """`extra`: more of Dovecot's configuration."""
        self._home = home
        self._maildir = maildir
        self._owner = owner()
        self._extra = extra
        for directory in (home / "run", home / "index"):
            directory.mkdir(mode=0o755, exist_ok=True)
        if os.geteuid() == 0:
            home.chmod(0o755)
            for path in (home / "index", maildir, *maildir.rglob("*")):
                os.chown(path, self._owner.pw_uid, self._owner.pw_gid)

    def forget_indexes(self) -> None:
        """As if nobody had ever opened the mailbox. Only while the server is stopped."""
        for entry in (self._home / "index").iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for entry in self._maildir.glob("dovecot*"):
            entry.unlink()

    @contextlib.contextmanager
    def running(self) -> Iterator[int]:
        """The server's port, for as long as it runs."""
        executable = program()
        if executable is None:
            raise FileNotFoundError("dovecot is not installed")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port: int = probe.getsockname()[1]
        (self._home / "dovecot.conf").write_text(self._configuration(port))
        server = subprocess.Popen([executable, "-F", "-c", str(self._home / "dovecot.conf")])
        try:
            _wait_for(port, server)
            yield port
        finally:
            server.terminate()
            server.wait(30)

    def _configuration(self, port: int) -> str:
        # As root Dovecot's own accounts do the work; else all of it is ours.
        ours = f"default_internal_user = {self._owner.pw_name}\ndefault_login_user = {self._owner.pw_name}\n"
        return CONFIGURATION.format(
            home=self._home, maildir=self._maildir, port=port, password=PASSWORD,
            uid=self._owner.pw_uid, gid=self._owner.pw_gid, users="" if os.geteuid() == 0 else ours,
            extra=self._extra,
        )  # fmt: skip


def owner() -> pwd.struct_passwd:
    """Whose mail it is: ours; or, as Dovecot refuses root's, the account `mail`."""
    return pwd.getpwnam("mail") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    """Returns when the server greets; raises TimeoutError after 20 s, RuntimeError when it gave up."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"dovecot ended with {server.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                if connection.recv(100).startswith(b"* OK"):
                    return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError("dovecot did not greet")
