"""Configurations as an admin writes them, and what `load` says of them."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from maillinkd.settings import ConfigurationError, MailboxSettings, load

ANNA = """
[users.anna]
address = "anna@ourco.example"

[mailboxes.anna]
host = "imap.example.com"
username = "anna@ourco.example"
"""

Write = Callable[..., Path]


def problems(path: Path, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What `load` complains of: key path -> what was expected."""
    with pytest.raises(ConfigurationError) as raised:
        load(path, environ or {})
    return {problem.key: problem.expected for problem in raised.value.problems}


def mailbox(write: Write, keys: str, environ: Mapping[str, str] | None = None) -> MailboxSettings:
    return load(write(ANNA + keys), environ or {}).mailboxes["anna"]


def secret(path: Path, content: bytes = b"correct horse\n") -> Path:
    """A file that nobody else can read."""
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def with_client(client: str) -> str:
    """Anna's mailbox, by an OAuth client."""
    return f"{ANNA}auth = 'oauth2'\noauth_client = 'own'\n[oauth_clients.own]\n{client}"
