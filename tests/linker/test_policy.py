"""The switches of linking.md."""

from dataclasses import asdict

import pytest

from maillinkd.linker.policy import PRESETS, SWITCHES, Policy


def test_recommended_is_what_stands_beside_each_choice() -> None:
    assert Policy.of("recommended", {}) == Policy()


def test_strict_sets_what_the_preset_says_and_nothing_else() -> None:
    """linking.md, Presets. (`smart_bcc.forwarded` stands in another table of the configuration.)"""
    strict = Policy.of("pipedrive-strict", {})
    differing = {name: value for name, value in asdict(strict).items() if value != getattr(Policy(), name)}

    assert differing == {
        "preset": "pipedrive-strict",
        "many_recipients": "all",
        "closed_item_threads": "exclude_later",
        "single_contact": True,
        "unknown_start": "leave",
    }


def test_a_switch_stands_before_its_preset_and_none_leaves_it() -> None:
    policy = Policy.of("pipedrive-strict", {"single_contact": False, "many_recipients": None})

    assert (policy.single_contact, policy.many_recipients) == (False, "all")


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(KeyError):
        Policy.of("relaxed", {})


def test_equal_names_decide_equally() -> None:
    """The name stands in every decision line."""
    names = {Policy.of(preset, {}).name for preset in PRESETS}
    flipped = {Policy().changed(**{name: not getattr(Policy(), name)}).name for name in SWITCHES}

    assert Policy().name == Policy.of("recommended", {}).name
    assert len(names | flipped) == len(PRESETS) + len(SWITCHES)
    assert Policy().name.startswith("recommended@")


def test_a_changed_policy_is_another_one() -> None:
    assert Policy().changed(single_contact=True) == Policy(single_contact=True)
