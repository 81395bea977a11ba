"""`MAILLINKD__SECTION__KEY`: what the environment says, over what the files say."""

import re
import tomllib
from collections.abc import Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from maillinkd.settings.problem import Problem, Sources, shown_key
from maillinkd.settings.root import model_at

PREFIX = "MAILLINKD__"


def override(tree: dict[str, Any], sources: Sources, environ: Mapping[str, str], problems: list[Problem]) -> None:
    """Sets what the environment says; the key of each variable is one that Settings has, whatever its letter case."""
    given: dict[tuple[str, ...], str] = {}
    for variable in sorted(name for name in environ if name.upper().startswith(PREFIX)):
        source = f"environment variable {variable}"
        path = _path_of(variable, tree)
        if isinstance(path, str):
            problems.append(Problem(source, "", path))
        elif path in given:
            problems.append(
                Problem(source, shown_key(path), f"is set by {given[path]} as well: expected one of them")
            )
        else:
            given[path] = source
            _set(tree, path, _value(environ[variable], path), sources, source)


def _path_of(variable: str, tree: Mapping[str, Any]) -> tuple[str, ...] | str:
    """The key path that a variable means, or what is wrong with it.

    The names of users, teams and mailboxes are matched with those of the files, whatever the letter case, and with
    "_" for "-" and "."; a name that no file has is taken in lower case.
    """
    section, *parts = variable[len(PREFIX) :].lower().split("__")
    if section not in ("users", "teams", "mailboxes", "oauth_clients"):
        if len(parts) != 1 or not parts[0]:
            return f"expected {PREFIX}SECTION__KEY"
        return section, parts[0]
    name, key = "__".join(parts[:-1]), parts[-1] if parts else ""
    if not name or not key:
        return f"expected {PREFIX}{section.upper()}__NAME__KEY"
    table = tree.get(section)
    known = [other for other in table if _folded(other) == _folded(name)] if isinstance(table, Mapping) else []
    if len(known) > 1:
        return f"expected one name in {section} that it can mean, found {' and '.join(sorted(known))}"
    return section, known[0] if known else name, key


def _folded(name: str) -> str:
    """As a variable's name can be written: systemd and shells know letters, digits and "_" alone."""
    return re.sub(r"[-.]", "_", name.lower())


def _set(tree: dict[str, Any], path: tuple[str, ...], value: object, sources: Sources, source: str) -> None:
    table: Any = tree
    for length, name in enumerate(path[:-1], 1):
        if name not in table:
            sources.keys[path[:length]] = source
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return  # the file has no table here, which is reported as the file's error
    table[path[-1]] = value
    sources.keys[path] = source


def _value(text: str, path: tuple[str, ...]) -> object:
    """The text itself where the key wants one; else what TOML reads in it (numbers, true and false, lists)."""
    model = model_at(path[:-1])
    known = model.model_fields.get(path[-1]) if model else None
    if known is None or _wants_text(known.annotation):
        return text
    try:
        read = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if read.keys() == {"value"} else text


def _wants_text(annotation: Any) -> bool:
    kinds = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return not {get_origin(kind) or kind for kind in kinds} & {int, bool, tuple}
