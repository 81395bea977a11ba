"""What the door has seen, as it is told."""

import json

from maillinkd.smtp.counters import Counters


def test_what_was_counted_is_told_as_json_has_it_refusals_by_their_names() -> None:
    counters = Counters(connections=3, tls=1, messages=2, octets=8000)
    counters.refusals["max_errors"] += 1
    counters.refusals["550"] += 20

    facts = json.loads(json.dumps(counters.facts()))

    assert facts == {
        "connections": 3,
        "tls": 1,
        "messages": 2,
        "octets": 8000,
        "refusals": {"550": 20, "max_errors": 1},
    }


def test_it_starts_with_nothing() -> None:
    assert Counters().facts() == {"connections": 0, "tls": 0, "messages": 0, "octets": 0, "refusals": {}}
