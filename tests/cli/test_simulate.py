"""`simulate`: what is printed. That it agrees with `decide` is tested in tests/ingest/test_again.py."""

import pytest

from cli.shell import ITEMS, Shell, mail

YOUNGER = {"kind": "deal", "id": "62", "title": "Old roof", "person": "3", "added_at": "2026-04-04T09:00:00Z"}
OLDER_ONLY = "[policy]\ncount_only_older_items = true\n"


@pytest.fixture
def unclear(shell: Shell) -> Shell:
    """Five threads with a candidate that is younger than they are."""
    shell.import_items(*ITEMS, YOUNGER)
    shell.import_mail(*(mail(f"m{n}@c", subject=f"Roof {n}") for n in range(5)))
    return shell


def test_changes_are_counted_by_kind_with_examples(unclear: Shell) -> None:
    policy = unclear.write("policy.toml", OLDER_ONLY)

    output = unclear.good("simulate", "--policy", policy, "--examples", "2").output

    assert output.splitlines() == [
        "threads  reason before                 reason then              slot",
        "      5  ambiguous_several_open_items  linked_single_open_item  filled",
        "",
        "ambiguous_several_open_items -> linked_single_open_item",
        "       1  - -> deal:61  Roof 0",
        "       2  - -> deal:61  Roof 1",
        "  and 3 more",
        "",
        f"5 of 5 threads would change under {policy_name(unclear, policy)}",
    ]


def policy_name(shell: Shell, policy: str) -> str:
    return str(shell.good("simulate", "--policy", policy, "--json").lines[-1]["policy"])


def test_every_change_is_a_line_of_json_and_the_counts_come_last(unclear: Shell) -> None:
    policy = unclear.write("policy.toml", OLDER_ONLY)

    *changes, summary = unclear.good("simulate", "--policy", policy, "--json").lines

    assert len(changes) == 5
    assert changes[0] == {
        "v": 1,
        "event": "change",
        "thread": 1,
        "owner": "anna",
        "channel": "imap",
        "subject": "Roof 0",
        "reason_before": "ambiguous_several_open_items",
        "reason": "linked_single_open_item",
        "slot_before": None,
        "slot": "deal:61",
        "persons_before": ["person:3"],
        "persons": ["person:3"],
        "organizations_before": ["organization:7"],
        "organizations": ["organization:7"],
        "candidates": ["deal:61"],
    }
    assert (summary["event"], summary["threads"], summary["changes"]) == ("simulated", 5, 5)
    assert summary["groups"] == [
        {
            "reason_before": "ambiguous_several_open_items",
            "reason": "linked_single_open_item",
            "slot": "filled",
            "count": 5,
            "examples": [1, 2, 3],
        }
    ]
    assert summary["later"] == []


def test_nothing_is_written(unclear: Shell) -> None:
    before = unclear.threads()

    unclear.good("simulate", "--policy", unclear.write("policy.toml", OLDER_ONLY))

    assert unclear.threads() == before


def test_the_policy_of_today_changes_nothing(unclear: Shell) -> None:
    output = unclear.good("simulate", "--policy", unclear.write("policy.toml", "[policy]\n")).output

    assert output.splitlines()[0] == "nothing would change"


def test_recent_threads_alone(unclear: Shell) -> None:
    policy = unclear.write("policy.toml", OLDER_ONLY)

    (summary,) = unclear.good("simulate", "--policy", policy, "--since", "2026-03-02", "--json").lines

    assert (summary["threads"], summary["changes"]) == (0, 0)


def test_rules_that_are_asked_when_mail_comes_are_told(unclear: Shell) -> None:
    rules = '[policy]\nmatch_rewritten = true\n[smart_bcc]\nforwarded = "off"\n'

    (summary,) = unclear.good("simulate", "--policy", unclear.write("p.toml", rules), "--json").lines
    output = unclear.good("simulate", "--policy", unclear.write("p.toml", rules)).output

    assert summary["later"] == ["policy.match_rewritten", "smart_bcc.forwarded"]
    assert "smart_bcc.forwarded counts when mail comes: it changes no thread that is there" in output


@pytest.mark.parametrize(
    ("rules", "later"),
    [
        ('[policy]\npreset = "pipedrive-strict"\n', ["smart_bcc.forwarded"]),
        ('[policy]\nbulk = "ignore"\nblock = ["x@y.example"]\n', ["policy.block", "policy.bulk"]),
        ('[policy]\nmatch_rewritten = false\n[smart_bcc]\nunknown_sender = "reject"\n', ["smart_bcc.unknown_sender"]),
        ('[policy]\npreset = "recommended"\n', []),
    ],
)
def test_what_counts_for_later_mail_alone(unclear: Shell, rules: str, later: list[str]) -> None:
    (*_, summary) = unclear.good("simulate", "--policy", unclear.write("p.toml", rules), "--json").lines

    assert summary["later"] == later


def test_a_wrong_file_is_refused_with_its_place(unclear: Shell) -> None:
    path = unclear.write("policy.toml", "[policy]\nsingle_contact = 1\n[users.eve]\n")

    ran = unclear.run("simulate", "--policy", path)

    assert ran.code == 78
    assert f"{path}: policy.single_contact: expected true or false" in ran.complaint
    assert f"{path}: users: expected [policy] and [smart_bcc] alone" in ran.complaint
