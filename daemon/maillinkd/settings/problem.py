"""What is wrong with a configuration, and where it stands."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the configuration."""

    source: str
    """The file, or "environment variable NAME"."""
    key: str
    """The key path as TOML writes it, `mailboxes.anna.port`; "" where the source as a whole is wrong."""
    expected: str
    """What was expected. Never holds a value that may be secret."""

    def __str__(self) -> str:
        return ": ".join(part for part in (self.source, self.key, self.expected) if part)


class ConfigurationError(Exception):
    """The admin's to mend (exit code 78): says for everything that is wrong where it stands and what was expected."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class SecretUnavailable(ConfigurationError):
    """A secret is configured but cannot be had now: no such file, an unset variable, a command that failed.

    At start that is a configuration error like any other; while the daemon runs it may pass.
    """


@dataclass(frozen=True, slots=True)
class Sources:
    """Where each key was set. Takes no part in comparing settings: what they say does not depend on it."""

    main: str = field(compare=False)
    keys: dict[tuple[str, ...], str] = field(default_factory=dict, compare=False)

    def of(self, path: KeyPath) -> str:
        """The source of the key, else of the nearest table above it, else the main file."""
        names = tuple(part for part in path if isinstance(part, str))
        for length in range(len(names), 0, -1):
            if source := self.keys.get(names[:length]):
                return source
        return self.main

    def problem(self, path: KeyPath, expected: str) -> Problem:
        """What was expected of this key, where it was set."""
        return Problem(self.of(path), shown_key(path), expected)


def shown_key(path: KeyPath) -> str:
    """The path as TOML writes it: `mailboxes."anna.k".folders[1]`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        elif part != "[key]":  # pydantic's word for "the key itself is wrong"
            bare = re.fullmatch(r"[A-Za-z0-9_-]+", part)
            shown += ("." if shown else "") + (part if bare else f'"{"".join(map(_in_quotes, part))}"')
    return shown


def _in_quotes(character: str) -> str:
    """As a basic string of TOML has it: as it is written, but for what would end the string or steer a terminal."""
    if character in '"\\':
        return f"\\{character}"
    if character.isprintable():
        return character
    return f"\\u{ord(character):04x}" if ord(character) < 0x10000 else f"\\U{ord(character):08x}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?`, or "" if nothing known is like the word."""
    from difflib import get_close_matches  # for mistakes alone

    close = get_close_matches(word.lower(), sorted(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""
