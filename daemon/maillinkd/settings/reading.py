"""The file, `conf.d/*.toml` beside it and the environment, one over the other (contract.md, Configuration)."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maillinkd.settings import environment
from maillinkd.settings.problem import ConfigurationError, Problem, Sources, shown_key
from maillinkd.settings.root import Settings

DEFAULT_FILE = Path("/etc/maillinkd/maillinkd.toml")
FILE_VARIABLE = "MAILLINKD_CONFIG"


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the configuration: `path`, else $MAILLINKD_CONFIG, else /etc/maillinkd/maillinkd.toml; `conf.d/*.toml`
    beside it, in the order of their names; `MAILLINKD__…` variables over both.

    Raises ConfigurationError with everything that is wrong: each with its file (or variable), key path, and what was
    expected. Secrets are not read here (see Settings.require_secrets).
    """
    path = path or Path(environ.get(FILE_VARIABLE) or DEFAULT_FILE)
    problems: list[Problem] = []
    tree: dict[str, Any] = {}
    sources = Sources(str(path))
    for file in (path, *_beside(path, problems)):
        _merge(tree, read(file, problems), sources, str(file), (), problems)
    if problems:  # a file that could not be read would make its keys "missing"
        raise ConfigurationError(problems)
    environment.override(tree, sources, environ, problems)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        from maillinkd.settings.complaint import problems_of

        problems += problems_of(error, sources)
    if problems:
        raise ConfigurationError(problems)
    settings._sources = sources
    return settings


def _beside(path: Path, problems: list[Problem]) -> list[Path]:
    directory = path.parent / "conf.d"
    try:
        return sorted(
            file for file in directory.iterdir() if file.suffix == ".toml" and not file.name.startswith(".")
        )
    except FileNotFoundError:
        return []
    except OSError as error:
        problems.append(Problem(str(directory), "", f"expected a readable directory: {error.strerror}"))
        return []


def read(file: Path, problems: list[Problem]) -> dict[str, Any]:
    """The tables of the file; empty, and told among the problems, if it cannot be read."""
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        problems.append(
            Problem(str(file), "", f"no such file: expected one here, or --config FILE, or ${FILE_VARIABLE}")
        )
    except OSError as error:
        problems.append(Problem(str(file), "", f"expected a readable file: {error.strerror}"))
    except UnicodeDecodeError as error:
        problems.append(Problem(str(file), "", f"expected UTF-8, found another byte at offset {error.start}"))
    except tomllib.TOMLDecodeError as error:
        problems.append(Problem(str(file), "", f"expected TOML: {error}"))
    except RecursionError:
        problems.append(Problem(str(file), "", "expected TOML that is not nested without end"))
    return {}


def _merge(
    tree: dict[str, Any],
    given: dict[str, Any],
    sources: Sources,
    source: str,
    above: tuple[str, ...],
    problems: list[Problem],
) -> None:
    """Merges tables key by key; a key that two files set is a problem, as nobody could tell which holds."""
    for key, value in given.items():
        path = (*above, key)
        if key not in tree:
            tree[key] = {} if isinstance(value, dict) else value
            sources.keys[path] = source
        elif not (isinstance(value, dict) and isinstance(tree[key], dict)):
            other = sources.of(path)
            problems.append(Problem(source, shown_key(path), f"is set in {other} as well: expected it in one file"))
            continue
        if isinstance(value, dict):
            _merge(tree[key], value, sources, source, path, problems)
