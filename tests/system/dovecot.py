"""A private Dovecot for the tests: free ports of 127.0.0.1, a directory of its own, stopped by its process id.

Users need not be made: each name is a mailbox of its own, and all have one password.
"""

import grp
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

PASSWORD = "secret-pass"
_FOLDERS = """
  mailbox Sent {
    auto = create
    special_use = \\Sent
  }
  mailbox Drafts {
    auto = create
    special_use = \\Drafts
  }
  mailbox Trash {
    auto = create
    special_use = \\Trash
  }
  mailbox Junk {
    auto = create
    special_use = \\Junk
  }
"""


def dovecot_path() -> str | None:
    """Where the server is, None if it is not installed."""
    return shutil.which("dovecot", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


@dataclass(frozen=True)
class Dovecot:
    """A running server. Any user name is a mailbox; all have the same password."""

    directory: Path
    port: int
    """Plain, with STARTTLS."""
    tls_port: int
    password: str = PASSWORD

    @property
    def ca_file(self) -> str:
        return str(self.directory / "cert.pem")

    @property
    def config(self) -> str:
        return str(self.directory / "dovecot.conf")

    def mail_directory(self, user: str) -> Path:
        return self.directory / "mail" / user

    def doveadm(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            ["doveadm", "-c", self.config, *arguments], input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"doveadm {' '.join(arguments)}: {done.stderr}")
        return done.stdout

    def deliver(
        self, user: str, messages: list[bytes], folder: str = "INBOX", received: datetime | None = None
    ) -> None:
        """Puts messages into a Maildir as a delivery agent would; many at once and without a connection."""
        name = "" if folder == "INBOX" else f".{folder}"
        directory = self.mail_directory(user) / name
        for part in ("tmp", "new", "cur"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        for at, message in enumerate(messages):
            unique = f"{time.time():.6f}.P{os.getpid()}Q{at:06}.test"
            (directory / "tmp" / unique).write_bytes(message)
            if received is not None:
                os.utime(directory / "tmp" / unique, (received.timestamp(), received.timestamp()))
            (directory / "tmp" / unique).rename(directory / "new" / unique)
        self._give_away(self.mail_directory(user))

    def _give_away(self, directory: Path) -> None:
        if os.getuid() == 0:
            owner = pwd.getpwuid(self.directory.stat().st_uid)
            subprocess.run(["chown", "-R", f"{owner.pw_uid}:{owner.pw_gid}", str(directory)], check=True)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def certificate(directory: Path, names: str = "DNS:localhost,IP:127.0.0.1") -> tuple[Path, Path]:
    """A self-signed certificate for `names` (subjectAltName), made by openssl: the paths of certificate and key."""
    certificate, key = directory / "cert.pem", directory / "cert.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", f"subjectAltName={names}",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@contextmanager
def running_dovecot(extra: str = "", mail: str = "maildir:%h") -> Iterator[Dovecot]:
    """Starts a server, by root or by any user, and stops it.

    `extra`: more configuration; `mail`: mail_location. Raises RuntimeError with the server's words if it does not
    start.
    """
    program = dovecot_path()
    if program is None:
        raise RuntimeError("dovecot is not installed")
    with TemporaryDirectory(prefix="dovecot-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        certificate(directory)
        plain, implicit = free_ports(2)
        server = Dovecot(directory, plain, implicit)
        user = _owner()
        (directory / "mail").mkdir()
        if os.getuid() == 0:
            account = pwd.getpwnam(user)
            os.chown(directory, account.pw_uid, account.pw_gid)
            os.chown(directory / "mail", account.pw_uid, account.pw_gid)
        Path(server.config).write_text(_configuration(server, user, extra, mail))
        process = subprocess.Popen(
            [program, "-F", "-c", server.config], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            _wait_for_greeting(process, plain)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stderr:
                process.stderr.close()


def _owner() -> str:
    """Whose the mail is: Dovecot serves none that is root's."""
    return pwd.getpwuid(os.getuid()).pw_name if os.getuid() else "mail"


def _configuration(server: Dovecot, user: str, extra: str, mail: str) -> str:
    account = pwd.getpwnam(user)
    by_root = os.getuid() == 0
    group = grp.getgrgid(account.pw_gid).gr_name
    internal = (
        ""
        if by_root
        else f"default_login_user = {user}\ndefault_internal_user = {user}\ndefault_internal_group = {group}"
    )
    no_chroot = "" if by_root else "chroot ="
    return f"""
protocols = imap
listen = 127.0.0.1
base_dir = {server.directory}/run
state_dir = {server.directory}/state
log_path = {server.directory}/log
{internal}
ssl = yes
ssl_cert = <{server.directory}/cert.pem
ssl_key = <{server.directory}/cert.key
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_location = {mail}
mail_fsync = never
maildir_very_dirty_syncs = no
first_valid_uid = 1
first_valid_gid = 1
mail_max_userip_connections = 100
service anvil {{
  {no_chroot}
}}
service stats {{
  {no_chroot}
}}
service imap-login {{
  {no_chroot}
  inet_listener imap {{
    port = {server.port}
  }}
  inet_listener imaps {{
    port = {server.tls_port}
    ssl = yes
  }}
}}
passdb {{
  driver = static
  args = password={server.password}
}}
userdb {{
  driver = static
  args = uid={account.pw_uid} gid={account.pw_gid} home={server.directory}/mail/%u
}}
namespace inbox {{
  inbox = yes
  separator = /
{_FOLDERS}
}}
{extra}
"""


def _wait_for_greeting(process: "subprocess.Popen[str]", port: int) -> None:
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"dovecot did not start: {process.stderr.read() if process.stderr else ''}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                if connection.recv(4) == b"* OK":
                    return
        except OSError:
            time.sleep(0.05)
    raise RuntimeError("dovecot does not answer")
