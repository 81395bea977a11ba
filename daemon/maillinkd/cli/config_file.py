"""Writes what `init` found out: a commented file, read by the daemon's own reader before it is put in its place."""

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from maillinkd.settings import DEFAULT_FILE, FILE_VARIABLE, ConfigurationError, Problem, Settings, load


@dataclass(frozen=True, slots=True)
class NewClient:
    """An OAuth client as it was registered with a provider."""

    provider: str
    client_id: str
    secret_file: Path | None


@dataclass(frozen=True, slots=True)
class NewMailbox:
    """A mailbox as it is to stand in the configuration, with the user whose it is where he is new."""

    name: str
    address: str
    owner: str
    new_user: bool
    """The owner stands in this file, too, with this address."""
    host: str
    port: int
    tls: Literal["implicit", "starttls", "none"]
    username: str
    source: str
    """Who named the server."""
    auth: Literal["password", "oauth2"] = "password"
    oauth_client: str = ""
    new_client: NewClient | None = None
    """The OAuth client stands in this file, too."""
    password_file: Path | None = None
    password_env: str = ""
    ask_password: bool = False
    """It is typed in, and goes into `password_file`."""
    ca_file: Path | None = None
    folders: tuple[str, ...] = ("INBOX", "\\Sent")
    since: str = "30d"
    store: str = "headers"
    bytes_a_day: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """What a file holds beside the mailbox if it is the main configuration."""

    database: str
    internal_domains: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the file goes."""

    main: Path
    """The configuration of which it is a part; or it itself."""
    target: Path

    @property
    def is_whole(self) -> bool:
        return self.target == self.main

    @classmethod
    def of(cls, config: Path | None, output: Path | None, name: str) -> "Place":
        """`output`; else `conf.d/NAME.toml` beside the main configuration, or that itself while there is none.

        A file in the `conf.d` beside the main configuration is a part of it; one elsewhere stands for itself.
        """
        main = (config or Path(os.environ.get(FILE_VARIABLE) or DEFAULT_FILE)).absolute()
        part = main.parent / "conf.d"
        if output is None:
            return cls(main, part / f"{name}.toml" if main.exists() else main)
        output = output.absolute()
        return cls(main if output.parent == part else output, output)


def database_beside(main: Path) -> str:
    """The URL of the database: in /var/lib for a system's configuration, else beside the file."""
    if main.parent == DEFAULT_FILE.parent:
        return "sqlite:////var/lib/maillinkd/maillinkd.db"
    return f"sqlite:///{main.parent / 'maillinkd.db'}"


def text_of(mailbox: NewMailbox, whole: Whole | None, today: date) -> str:
    """The file, in TOML."""
    lines = [
        f"# {mailbox.address}, written by `maillinkd init` on {today.isoformat()}.",
        f"# The server was named by {mailbox.source}.",
        "# config/maillinkd.toml explains every setting that there is.",
        "",
    ]
    if whole:
        lines += [
            "[database]",
            f"url = {_toml(whole.database)}",
            "",
            "[policy]",
            "# Everybody in these domains is a colleague: their addresses are never taken for customers'.",
            f"internal_domains = {_toml(whole.internal_domains)}",
            "",
        ]
    if mailbox.new_user:
        lines += [
            f"[users.{_key(mailbox.owner)}]",
            '# The owner of the conversations. More addresses of the same person: aliases = ["…"].',
            f"address = {_toml(mailbox.address)}",
        ]
        lines += ["# May link and unlink for everybody.", "admin = true"] if whole else []
        lines += [""]
    if mailbox.new_client:
        lines += _client(mailbox.oauth_client, mailbox.new_client)
    lines += [
        f"[mailboxes.{_key(mailbox.name)}]",
        "# Whose conversations these are: a user or a team.",
        f"owner = {_toml(mailbox.owner)}",
        "# The server. TLS is always on and its certificate checked.",
        f"host = {_toml(mailbox.host)}",
        f"port = {mailbox.port}",
        f"tls = {_toml(mailbox.tls)}",
    ]
    if mailbox.ca_file:
        lines += ["# Certificates to believe instead of the system's.", f"ca_file = {_toml(str(mailbox.ca_file))}"]
    lines += [f"username = {_toml(mailbox.username)}", *_secret(mailbox)]
    lines += [
        '# Names, globs, or special uses; "*" is all but Drafts, Junk and Trash. The first one is watched.',
        f"folders = {_toml(mailbox.folders)}",
        '# How far back the first sync goes: 30d, 12w, 6m, 1y, a date, or "all".',
        f"since = {_toml(mailbox.since)}",
        '# headers | full: with "full" the whole mails are kept, too.',
        f"store = {_toml(mailbox.store)}",
    ]
    if mailbox.bytes_a_day:
        lines += [
            "# What is read in 24 hours at most: the provider locks out whoever takes more than it allows.",
            f"bytes_a_day = {mailbox.bytes_a_day:_}",
        ]
    return "\n".join(lines) + "\n"


def _client(name: str, client: NewClient) -> list[str]:
    lines = [
        f"[oauth_clients.{_key(name)}]",
        "# maillinkd as it is registered with the provider; other mailboxes may use the same.",
        f"provider = {_toml(client.provider)}",
        f"client_id = {_toml(client.client_id)}",
    ]
    if client.secret_file:
        lines += [
            "# The client's secret is the first line of this file.",
            f"client_secret_file = {_toml(str(client.secret_file))}",
        ]
    return [*lines, ""]


def _secret(mailbox: NewMailbox) -> list[str]:
    if mailbox.auth == "oauth2":
        return [
            f"# Sign in once: maillinkd auth login {mailbox.name}",
            'auth = "oauth2"',
            f"oauth_client = {_toml(mailbox.oauth_client)}",
        ]
    if mailbox.password_file:
        return [
            "# The password is the first line of this file.",
            f"password_file = {_toml(str(mailbox.password_file))}",
        ]
    return ["# The environment variable that holds the password.", f"password_env = {_toml(mailbox.password_env)}"]


def _toml(value: object) -> str:
    """A TOML text or list of texts: JSON's escapes are TOML's, but for DEL."""
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _key(name: str) -> str:
    """A name as a key; names hold letters, digits, and _ . - alone."""
    return _toml(name) if "." in name else name


def read_on_trial(place: Place, text: str) -> Settings:
    """What the daemon would read if the text stood in its place, with everything else that is there.

    Raises ConfigurationError; its problems name the files as they will be called.
    """
    with tempfile.TemporaryDirectory(prefix="maillinkd-init-") as name:
        root = Path(name)
        (root / "conf.d").mkdir()
        renamed = {str(root / place.main.name): str(place.main)}
        if not place.is_whole:
            (root / place.main.name).symlink_to(place.main)
        for file in _parts(place.main):
            (root / "conf.d" / file.name).symlink_to(file)
            renamed[str(root / "conf.d" / file.name)] = str(file)
        written = root / (place.main.name if place.is_whole else f"conf.d/{place.target.name}")
        written.unlink(missing_ok=True)
        written.write_text(text, encoding="utf-8")
        renamed[str(written)] = str(place.target)
        try:
            return load(root / place.main.name)
        except ConfigurationError as error:
            raise ConfigurationError(
                Problem(renamed.get(each.source, each.source), each.key, each.expected) for each in error.problems
            ) from None


def _parts(main: Path) -> list[Path]:
    with suppress(FileNotFoundError):
        return list((main.parent / "conf.d").glob("*.toml"))
    return []


def put(path: Path, text: str) -> None:
    """Writes a file and puts it in its place at once, whatever was there. Raises OSError.

    Nobody but its owner reads it, mode 0600. What root writes the group of the folder may read, too, where that is
    not root's own: in /etc/maillinkd it is the daemon's.
    """
    if not path.parent.exists():
        path.parent.mkdir(mode=0o700, parents=True)
        _share(path.parent, path.parent.parent, 0o750)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            _share(Path(name), path.parent, 0o640)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _share(path: Path, folder: Path, mode: int) -> None:
    group = folder.stat().st_gid
    if os.geteuid() == 0 and group != 0:
        os.chown(path, -1, group)
        path.chmod(mode)
