"""Rules that are only tried."""

from pathlib import Path

import pytest

from maillinkd.linker.policy import Policy
from maillinkd.settings import ConfigurationError, Settings, load, with_policy
from settings.written import ANNA, Write


@pytest.fixture
def configured(write: Write) -> Settings:
    policy = '[policy]\ninternal_domains = ["ourco.example"]\nsingle_contact = true\n'
    return load(write(ANNA + policy), environ={})


def test_the_rules_of_another_file_stand_in_the_place_of_the_configuration_s(
    configured: Settings, tmp_path: Path
) -> None:
    """But for the internal domains."""
    path = tmp_path / "policy.toml"
    path.write_text('[policy]\nunknown_start = "leave"\n[smart_bcc]\nforwarded = "off"\n')

    tried = with_policy(configured, path)

    assert tried.policy.chosen() == Policy(unknown_start="leave")
    assert tried.policy.internal_domains == ("ourco.example",)
    assert (tried.smart_bcc.forwarded, tried.smart_bcc.domain) == ("off", configured.smart_bcc.domain)
    assert tried.mailboxes == configured.mailboxes
    assert configured.policy.chosen() == Policy(single_contact=True)


@pytest.mark.parametrize(
    ("today", "rules", "forwarded"),
    [
        ("", 'preset = "pipedrive-strict"', "off"),
        ('preset = "pipedrive-strict"', "", "attached+inline"),
        ('preset = "pipedrive-strict"', 'preset = "pipedrive-strict"', "off"),
        ("", "", "attached+inline"),
        ("", 'preset = "pipedrive-strict"\n[smart_bcc]\nforwarded = "attached"', "attached"),
        ('[smart_bcc]\nforwarded = "attached"', 'preset = "pipedrive-strict"', "attached"),
    ],
)
def test_a_preset_says_what_becomes_of_forwards(
    write: Write, tmp_path: Path, today: str, rules: str, forwarded: str
) -> None:
    """Unless something was set beside it."""
    path = tmp_path / "policy.toml"
    path.write_text(f"[policy]\n{rules}\n")

    tried = with_policy(load(write(f"{ANNA}[policy]\n{today}\n"), environ={}), path)

    assert tried.smart_bcc.forwarded == forwarded


def test_internal_domains_may_be_tried_too(configured: Settings, tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[policy]\ninternal_domains = ["other.example"]\n')

    assert "other.example" in with_policy(configured, path).internal_domains()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[users.eve]\n", "users: expected [policy] and [smart_bcc] alone: nothing else is a rule"),
        ("[smart_bcc]\nenabled = true\n", "smart_bcc.enabled: is no rule: expected unknown_sender or forwarded"),
        ("[policy]\nsingle_contact = 1\n", "policy.single_contact: expected true or false"),
        ("[policy]\nsingle_contat = true\n", "policy.single_contat: unknown key; did you mean single_contact?"),
        ("policy = 3\n", "policy: expected a table"),
        ("[policy\n", ""),
    ],
)
def test_rules_that_are_none_are_refused_with_their_place(
    configured: Settings, tmp_path: Path, text: str, problem: str
) -> None:
    path = tmp_path / "policy.toml"
    path.write_text(text)

    with pytest.raises(ConfigurationError) as error:
        with_policy(configured, path)

    assert [str(each).startswith(f"{path}: {problem}") for each in error.value.problems] == [True]
