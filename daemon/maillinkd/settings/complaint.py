"""What pydantic found wrong, in TOML's words. Only a configuration with mistakes needs this."""

from collections.abc import Iterator
from datetime import date, datetime

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from maillinkd.settings.problem import KeyPath, Problem, Sources, did_you_mean
from maillinkd.settings.root import model_at
from maillinkd.settings.sections import SECRET_WAYS

# What TOML's values are called in messages.
TYPE_NAMES = {
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    list: "a list",
    dict: "a table",
    datetime: "a date and time",
    date: "a date",
}


def problems_of(error: ValidationError, sources: Sources, above: KeyPath = ()) -> Iterator[Problem]:
    """What the admin has to mend. `above` is the path of the table that was checked."""
    for found in error.errors():
        if found["type"] == "contradictions":
            yield from (sources.problem(path, expected) for path, expected in found["ctx"]["found"])
        else:
            path = (*above, *found["loc"])
            yield sources.problem(path, _expected(found, path))


def _expected(error: ErrorDetails, path: KeyPath) -> str:
    """What was expected, in TOML's words. What was found is named by its type alone: it may be secret."""
    context = error.get("ctx", {})
    match error["type"]:
        case "extra_forbidden":
            return _unknown(path)
        case "missing":
            return "is missing: expected a value"
        case "value_error":
            return str(context["error"])
        case "literal_error":
            return f"expected {context['expected']}"
        case "string_pattern_mismatch" if path[-1] == "[key]":
            return "expected a name of 1 to 64 letters, digits, and _ . -"
        case "string_pattern_mismatch":
            return "expected a text without control characters or others that do not belong there"
        case "greater_than_equal":
            return f"expected {context['ge']} or more"
        case "less_than_equal":
            return f"expected {context['le']} or less"
        case "string_too_short":
            return "expected a text that is not empty"
        case "string_too_long":
            return f"expected at most {context['max_length']} characters"
    kinds = {"string": str, "bool": bool, "int": int, "tuple": list, "path": str, "dict": dict, "model": dict}
    kind = kinds.get(error["type"].partition("_")[0])
    wanted = TYPE_NAMES[kind] if kind else error["msg"].removeprefix("Input should be ")
    return f"expected {wanted}, found {TYPE_NAMES.get(type(error['input']), 'something else')}"


def _unknown(path: KeyPath) -> str:
    key = str(path[-1])
    if key == "password" and path[0] == "mailboxes":
        ways = ", ".join(SECRET_WAYS)
        return f"a password does not stand in the configuration: expected {ways} or a systemd credential"
    model = model_at(path[:-1])
    known = list(model.model_fields) if model else []
    return "unknown key" + (did_you_mean(key, known) or f"; expected one of {', '.join(known)}")
