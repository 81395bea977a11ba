"""Rules that are only tried (`simulate`): another file's, in the place of the configuration's own."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from maillinkd.settings.problem import ConfigurationError, Problem, Sources, shown_key
from maillinkd.settings.reading import read
from maillinkd.settings.root import Settings
from maillinkd.settings.sections import PRESET_FORWARDED, PolicySettings, Section, SmartBccSettings

_S = TypeVar("_S", bound=Section)
SMART_BCC_RULES = ("unknown_sender", "forwarded")
"""What of `[smart_bcc]` is a rule."""


def with_policy(settings: Settings, path: Path) -> Settings:
    """The same configuration under the rules of another file: its `[policy]`, and the rules in its `[smart_bcc]`.

    `[policy]` stands in the place of the configuration's own, but for `internal_domains`, which stay unless the file
    names some; so do the rules of `[smart_bcc]`, and what the file's preset says of them. Raises ConfigurationError.
    """
    problems: list[Problem] = []
    tree = read(path, problems)
    expected = "expected [policy] and [smart_bcc] alone: nothing else is a rule"
    problems += [Problem(str(path), section, expected) for section in sorted(tree.keys() - {"policy", "smart_bcc"})]
    smart_bcc = tree.get("smart_bcc", {})
    if isinstance(smart_bcc, dict):
        expected = f"is no rule: expected {' or '.join(SMART_BCC_RULES)}"
        others = sorted(smart_bcc.keys() - set(SMART_BCC_RULES))
        problems += [Problem(str(path), shown_key(("smart_bcc", key)), expected) for key in others]
        smart_bcc = {key: smart_bcc[key] for key in SMART_BCC_RULES if key in smart_bcc}
    policy = _tried(PolicySettings, "policy", tree.get("policy", {}), path, problems)
    rules = _tried(SmartBccSettings, "smart_bcc", smart_bcc, path, problems)
    if problems:
        raise ConfigurationError(problems)
    if "internal_domains" not in policy.model_fields_set:
        policy = policy.model_copy(update={"internal_domains": settings.policy.internal_domains})
    given = _of_preset(settings, policy) | {key: getattr(rules, key) for key in rules.model_fields_set}
    rest = {"policy": policy, "smart_bcc": settings.smart_bcc.model_copy(update=given)}
    return settings.model_copy(update=rest)


def _of_preset(settings: Settings, policy: PolicySettings) -> dict[str, object]:
    """What the file's preset says in the place of the configuration's."""
    if settings.smart_bcc.forwarded != PRESET_FORWARDED[settings.policy.preset]:
        return {}  # it was set beside the preset, and stays
    return {"forwarded": PRESET_FORWARDED[policy.preset]}


def _tried(model: type[_S], section: str, table: object, path: Path, problems: list[Problem]) -> _S:
    """The section of the file, or with its problems told one of defaults."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        from maillinkd.settings.complaint import problems_of

        problems += problems_of(error, Sources(str(path)), (section,))
        return model()
