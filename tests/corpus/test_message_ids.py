"""The ids that the rules find in public mail, and the threads that hang together by them (threading.md, Data)."""

import gzip
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from maillinkd.mail.mbox import read_mbox
from maillinkd.mail.message import Message, parse, split
from maillinkd.mail.msgid import in_reply_to, message_id, references

pytestmark = pytest.mark.corpora

ARCHIVES = {
    "usrp-users": 2_846,
    "pipermail-r-package-devel": 2_533,
    "openwrt": 2_397,
    "dovecot-list-2002-2004": 917,
    "openiscsi": 358,
    "notmuch-test": 40,
}
TODAY = datetime(2026, 11, 22, tzinfo=UTC)


def header_block(fields: dict[str, Any]) -> bytes:
    """The block whose raw values these are; a string or number is a note of the collector."""
    lines = (f"{name}:{value}\n" for name, values in fields.items() if isinstance(values, list) for value in values)
    return "".join(lines).encode("utf-8", "surrogateescape")


def message(fields: dict[str, Any]) -> Message:
    return parse(header_block(fields), received_at=TODAY, size=int(fields.get("size", 0)))


def threads(messages: Iterable[tuple[str, Message]]) -> set[frozenset[str]]:
    """Connected components, by a union-find of a few lines: the rules, without the code that places messages."""
    parent: dict[str, str] = {}

    def root(node: str) -> str:
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    keyed = list(messages)
    for key, each in keyed:
        for id_ in (each.message_id, *each.aliases, *each.references, *each.in_reply_to):
            parent[root(f"id {id_}")] = root(f"key {key}")
    components: dict[str, set[str]] = {}
    for key, _ in keyed:
        components.setdefault(root(f"key {key}"), set()).add(key)
    return set(map(frozenset, components.values()))


def read(path: Path) -> Any:
    if path.suffix != ".gz":
        return json.loads(path.read_bytes())
    with gzip.open(path) as file:
        return json.load(file)


@pytest.mark.parametrize("archive", ARCHIVES)
def test_archives_fall_into_the_expected_threads(corpora: Path, archive: str) -> None:
    expected = set(map(frozenset, read(corpora / archive / "expected.spec.json.gz")["threads"]))
    with gzip.open(corpora / archive / "headers.jsonl.gz", "rt", encoding="utf-8") as lines:
        fields = [json.loads(line) for line in lines]

    found = threads((each["key"], message(each)) for each in fields)

    assert len(expected) == ARCHIVES[archive]
    assert len(found) == len(expected)
    assert not expected ^ found


def test_small_cases_hold_in_every_order(corpora: Path) -> None:
    cases = [case for case in read(corpora / "cases.json") if case["policy"] == "any"]

    assert cases
    for case in cases:
        by_key = {fields["key"]: message(fields) for fields in case["messages"]}
        orders = case.get("orders") or list(permutations(by_key))[:200]
        for order in orders:
            found = threads((key, by_key[key]) for key in order)

            assert set(map(frozenset, case["expected"])) == found, case["name"]


def test_malformed_values_give_the_ids_of_the_rules(corpora: Path) -> None:
    """The file lists empty ids, repeats and all references; T8, T9 and `Message` leave those out."""
    cases = read(corpora / "malformed.json")

    assert len(cases) == 196
    for case in cases:
        expected = list(dict.fromkeys(filter(None, case["ids_by_rules_before_participant_check"])))
        expected = expected if len(expected) <= 100 else [expected[0], *expected[-99:]]
        values = [case["value"]]
        match case["field"]:
            case "message-id":
                found = [id_] if (id_ := message_id(values)) else []
            case "references":
                found = list(references(values))
            case "in-reply-to":
                found = list(in_reply_to(values))

        assert expected == found, f"{case['key']}: {case['category']}"


def test_participants_addresses_are_no_ids(corpora: Path) -> None:
    """T8."""
    for case in read(corpora / "malformed.json"):
        addresses = frozenset(case["participants"])
        read_ids = references if case["field"] == "references" else in_reply_to

        assert addresses.isdisjoint(id_.lower() for id_ in read_ids([case["value"]], addresses=addresses))


def test_a_raw_mbox_gives_the_same_messages_as_its_headers(corpora: Path) -> None:
    """The dovecot list, with CRLF line ends: every message, its time received, its id."""
    archive = corpora / "dovecot-list-2002-2004"
    with gzip.open(archive / "headers.jsonl.gz", "rt", encoding="utf-8") as lines:
        expected = [message(json.loads(line)) for line in lines]

    with gzip.open(archive / "dovecot-list.mbox.gz") as stream:
        mails = [(parse(split(raw)[0], received_at=at or TODAY, size=len(raw)), at) for raw, at in read_mbox(stream)]

    assert len(mails) == len(expected)
    assert all(at is not None for _, at in mails)
    assert [each.message_id for each in expected] == [each.message_id for each, _ in mails]
    assert [each.participants for each in expected] == [each.participants for each, _ in mails]
    assert [each.references for each in expected] == [each.references for each, _ in mails]
