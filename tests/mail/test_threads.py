"""threading.md: a thread is a connected component of ids, whatever the order in which its messages come."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import permutations
from math import log2
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.mail.message import Message, parse
from maillinkd.mail.threads import (
    NODE_BYTES,
    Joint,
    Known,
    Placement,
    Size,
    copy_id,
    node,
    references_of,
)

RECEIVED = datetime(2025, 12, 15, 12, tzinfo=UTC)

Partition = frozenset[frozenset[str]]


def read(**fields: str) -> Message:
    """A mail with these header fields, `_` for `-`."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    return parse("\r\n".join([*lines, "", ""]).encode(), received_at=RECEIVED, size=500)


def joint_of(message: Message, *, scope: int = 1, detached: bool = False) -> Joint:
    return Joint(
        node(scope, message.message_id),
        tuple(node(scope, alias) for alias in message.aliases),
        tuple(node(scope, ref) for ref in references_of(message)),
        detached,
    )


@dataclass
class Shelf:
    """What the store keeps of a scope: nodes and the sizes of threads. No SQL, and no more than it is told."""

    known: dict[bytes, Known] = field(default_factory=dict)
    sizes: dict[int, Size] = field(default_factory=dict)
    relabelled: dict[bytes, int] = field(default_factory=lambda: defaultdict(int))
    bridges: int = 0

    def batch(self, joints: Iterable[Joint]) -> None:
        """Places a batch as `ingest` does: look up its nodes and their threads, place, write."""
        joints = list(joints)
        nodes = {each for joint in joints for each in (joint.own, *joint.aliases, *joint.references)}
        known = {each: self.known[each] for each in nodes & self.known.keys()}
        placement = Placement(known, {each.thread: self.sizes[each.thread] for each in known.values()})
        for joint in joints:
            label, bridge, _ = placement.place(joint)
            self.bridges += bridge
            assert placement.thread_of(joint.own) == label
            assert placement.is_borne(joint.own)
        placed = placement.result()
        labels = {old: len(self.sizes) + number for number, old in enumerate(sorted(placed.opened), start=1)}
        for each, one in placed.nodes.items():
            self.known[each] = Known(labels.get(one.thread, one.thread), one.borne, one.detached)
        for survivor, gone in placed.merged.items():
            for each, one in self.known.items():
                if one.thread in gone:
                    self.known[each] = Known(survivor, one.borne, one.detached)
                    self.relabelled[each] += 1
        for label in {*placed.opened, *(one.thread for one in known.values())}:
            kept = placement.size(label)
            self.sizes[labels.get(label, label)] = kept

    def partition(self) -> frozenset[frozenset[bytes]]:
        """The nodes by thread."""
        threads: dict[int, set[bytes]] = defaultdict(set)
        for each, one in self.known.items():
            threads[one.thread].add(each)
        return frozenset(map(frozenset, threads.values()))

    def sizes_fit(self) -> bool:
        """What is kept of a thread's size is how many ids lie in it."""
        counted = Counter(one.thread for one in self.known.values())
        return all(self.sizes[label].ids == count for label, count in counted.items())

    def threads(self, names: dict[bytes, str]) -> Partition:
        """The messages by thread."""
        return frozenset(
            frozenset(names[each] for each in thread if each in names)
            for thread in self.partition()
            if any(each in names for each in thread)
        )


def partition_of(messages: Sequence[Message], batches: Sequence[int] = ()) -> Partition:
    """The threads of these messages, by their ids; `batches` are the positions at which a new batch begins."""
    shelf, start = Shelf(), 0
    for end in (*batches, len(messages)):
        shelf.batch(joint_of(each) for each in messages[start:end])
        start = end
    return shelf.threads({joint_of(each).own: each.message_id for each in messages})


def in_any_order(messages: Sequence[Message]) -> Partition:
    """The threads of these messages, the same in every order and batching, or else the test fails."""
    found = {
        partition_of(order, cuts)
        for order in permutations(messages)
        for cuts in ((), range(1, len(messages)))
    }  # fmt: skip
    assert len(found) == 1
    return found.pop()


def threads(*ids: str) -> Partition:
    """`threads("a b", "c")`: a and b together, c alone."""
    return frozenset(frozenset(f"{name}@x" for name in each.split()) for each in ids)


A = read(Message_ID="<a@x>")
B_TO_A = read(Message_ID="<b@x>", In_Reply_To="<a@x>")
C_TO_A = read(Message_ID="<c@x>", References="<a@x>")


@pytest.mark.parametrize(
    ("promise", "messages", "expected"),
    [
        ("1. two replies to a message that nobody has are one thread", [B_TO_A, C_TO_A], threads("b c")),
        ("1. and it joins them when it comes", [B_TO_A, C_TO_A, A], threads("a b c")),
        (
            "2. two threads are one when a message refers to both",
            [read(Message_ID="<x@x>"), read(Message_ID="<y@x>"), read(Message_ID="<z@x>", References="<x@x> <y@x>")],
            threads("x y z"),
        ),
        (
            "2. and stay apart until then",
            [read(Message_ID="<x@x>"), read(Message_ID="<y@x>")],
            threads("x", "y"),
        ),
        (
            "3. two messages that refer to each other",
            [read(Message_ID="<c1@x>", References="<c2@x>"), read(Message_ID="<c2@x>", References="<c1@x>")],
            threads("c1 c2"),
        ),
        ("3. a message that refers to itself alone", [read(Message_ID="<a@x>", References="<a@x>")], threads("a")),
        (
            "4. words before an address are no reference",
            [
                read(Message_ID="<dave@x>"),
                read(Message_ID="<b@x>", In_Reply_To='Message from Dave Long <dave@x> of "Wed..."'),
            ],
            threads("dave", "b"),
        ),
        (
            "4. the last of two in angles, if it ends the value",
            [
                read(Message_ID="<B90BDE1F2233@x>"),
                read(
                    Message_ID="<b@x>",
                    In_Reply_To='Message from Lewin <K.L@b.example> of "Wed, 4 Jul" <B90BDE1F2233@x>',
                ),
            ],
            threads("B90BDE1F2233 b"),
        ),
        (
            "4. the id that follows the words",
            [
                read(Message_ID="<id@x>"),
                read(Message_ID="<b@x>", In_Reply_To='Your message of "Wed, 4 Jul" <id@x>'),
            ],
            threads("id b"),
        ),
        (
            "5. a bare id joins",
            [read(Message_ID="<CAKo1dg-x@x>"), read(Message_ID="<b@x>", In_Reply_To="CAKo1dg-x@x")],
            threads("CAKo1dg-x b"),
        ),
        (
            "5. an address of the same mail does not",
            [
                read(Message_ID="<glyph@x>"),
                read(Message_ID="<b@x>", To="glyph@x", In_Reply_To="glyph@x"),
                read(Message_ID="<c@x>", To="Glyph <GLYPH@x>", In_Reply_To="glyph@x"),
            ],
            threads("glyph", "b", "c"),
        ),
        (
            "7. the left part is case-sensitive",
            [read(Message_ID="<Case@x>"), read(Message_ID="<case@x>")],
            threads("Case", "case"),
        ),
        (
            "7. the domain is not",
            [read(Message_ID="<a@X>"), read(Message_ID="<b@x>", References="<a@x>")],
            threads("a b"),
        ),
        (
            "8. a forward to a supplier and his answer",
            [A, read(Message_ID="<f@x>", References="<a@x>"), read(Message_ID="<s@x>", References="<a@x> <f@x>")],
            threads("a f s"),
        ),
        (
            "9. a reply under a new subject",
            [
                read(Message_ID="<a@x>", Subject="New roof"),
                read(Message_ID="<b@x>", In_Reply_To="<a@x>", Subject="Old cellar"),
            ],
            threads("a b"),
        ),
        (
            "T13. an equal subject joins nothing",
            [read(Message_ID="<a@x>", Subject="Re: roof"), read(Message_ID="<b@x>", Subject="Re: roof")],
            threads("a", "b"),
        ),
        (
            "T10. an alias is a further id of the message",
            [
                read(Message_ID="<new@x>", X_Google_Original_Message_ID="<original-1@x>"),
                read(Message_ID="<b@x>", In_Reply_To="<original-1@x>"),
            ],
            threads("new b"),
        ),
        (
            "T14. what a forward was made from joins nothing",
            [A, read(Message_ID="<b@x>", X_Forwarded_Message_Id="<a@x>", Thread_Topic="roof")],
            threads("a", "b"),
        ),
    ],
)  # fmt: skip
def test_which_messages_belong_together(promise: str, messages: list[Message], expected: Partition) -> None:
    assert in_any_order(messages) == expected, promise


def test_scopes_share_no_ids() -> None:
    """Example 6: in two owners' mailboxes the same mail lies in a thread of each. T1, T4."""
    mail = read(Message_ID="<a@x>")

    assert joint_of(mail, scope=1).own != joint_of(mail, scope=2).own
    assert len(node(1, "a@x")) == NODE_BYTES


def test_an_id_that_is_no_utf8_is_an_id() -> None:
    """T2: bytes that are not UTF-8 survive."""
    assert node(1, "\udcff@x") != node(1, "\udcfe@x")


def test_mails_without_an_id_do_not_meet() -> None:
    """T5: an empty id is never compared."""
    mails = [read(From=f"{name}@x", Date="Mon, 15 Dec 2025 12:00:00 +0000", Message_ID="<>") for name in "ab"]

    assert len(in_any_order(mails)) == 2


def test_references_come_in_the_order_of_the_header_then_of_in_reply_to() -> None:
    mail = read(Message_ID="<d@x>", References="<a@x> <b@x>", In_Reply_To="<c@x> <a@x>")

    assert references_of(mail) == ("a@x", "b@x", "c@x")


def test_a_copy_bears_an_id_of_its_own_that_no_mail_can_name() -> None:
    """T17, L16 (c)."""
    copies = {copy_id("a@x", item) for item in ("deal:61", "deal:62")} | {copy_id("b@x", "deal:61")}

    assert len(copies) == 3
    assert copy_id("a@x", "Deal:AB") == copy_id("a@x", "deal:ab")
    for copy in copies:
        assert references_of(read(Message_ID="<z@x>", References=f"<{copy}>", In_Reply_To=copy)) != (copy,)


# -- T17: detached -------------------------------------------------------------------------------------------


def joint(own: str, references: str = "", *, aliases: str = "", detached: bool = False) -> Joint:
    """Nodes are written as letters."""
    return Joint(own.encode(), tuple(map(str.encode, aliases)), tuple(map(str.encode, references)), detached)


def place(*joints: Joint, each_alone: bool = False) -> frozenset[frozenset[bytes]]:
    shelf = Shelf()
    for some in [[one] for one in joints] if each_alone else [joints]:
        shelf.batch(some)
    return shelf.partition()


def nodes(*components: str) -> frozenset[frozenset[bytes]]:
    return frozenset(frozenset(map(str.encode, component)) for component in components)


@pytest.mark.parametrize("each_alone", [True, False], ids=["batches of one", "one batch"])
@pytest.mark.parametrize(
    ("promise", "joints", "expected"),
    [
        (
            "a detached message joins nothing that it refers to",
            [joint("a"), joint("d", "a", detached=True)],
            ("a", "d"),
        ),
        (
            "nor what its aliases name",
            [joint("a"), joint("d", "", aliases="a", detached=True)],
            ("a", "d"),
        ),
        (
            "who refers to it joins it",
            [joint("d", "a", detached=True), joint("r", "d")],
            ("dr",),
        ),
        (
            "and not those that it names before it",
            [joint("a"), joint("d", "a", detached=True), joint("r", "ad")],
            ("a", "dr"),
        ),
        (
            "but those that it names after it",
            [joint("a"), joint("d", "a", detached=True), joint("r", "adb")],
            ("a", "drb"),
        ),
        (
            "of two detached messages it joins the last",
            [joint("a"), joint("d", "a", detached=True), joint("e", "ad", detached=True), joint("r", "ade")],
            ("a", "d", "er"),
        ),
        (
            "the answer to the answer follows",
            [joint("a"), joint("d", "a", detached=True), joint("r", "ad"), joint("s", "adr")],
            ("a", "drs"),
        ),
        (
            "an answer to the synced copy stays with the original",
            [joint("a"), joint("d", "a", detached=True), joint("r", "a")],
            ("ar", "d"),
        ),
        (
            "two detached copies of one message are apart",
            [joint("d", "a", detached=True), joint("e", "a", detached=True)],
            ("d", "e"),
        ),
    ],
)  # fmt: skip
def test_detached(promise: str, joints: list[Joint], expected: tuple[str, ...], each_alone: bool) -> None:
    assert place(*joints, each_alone=each_alone) == nodes(*expected), promise


# -- bridges and sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("promise", "joints", "bridges"),
    [
        (
            "two threads of two messages each",
            [joint("a"), joint("b", "a"), joint("x"), joint("y", "x"), joint("z", "ax")],
            1,
        ),
        ("one of them has one message", [joint("a"), joint("b", "a"), joint("x"), joint("z", "ax")], 0),
        ("one thread alone", [joint("a"), joint("b", "a"), joint("c", "ab")], 0),
        ("ids only heard of are no messages", [joint("a", "bcd"), joint("x", "yz"), joint("q", "ax")], 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("each_alone", [True, False])
def test_a_bridge_joins_two_threads_of_two_messages_or_more(
    promise: str, joints: list[Joint], bridges: int, each_alone: bool
) -> None:
    shelf = Shelf()
    for some in [[one] for one in joints] if each_alone else [joints]:
        shelf.batch(some)

    assert shelf.bridges == bridges, promise


def test_a_thread_knows_how_many_ids_and_messages_it_has() -> None:
    placement = Placement({}, {})
    label, *_ = placement.place(joint("a", "bc"))
    placement.place(joint("b", "a"))

    assert placement.size(label) == Size(ids=3, messages=2)


def test_what_would_be_joined_is_known_before() -> None:
    """L16 asks before it places."""
    placement = Placement({}, {})
    assert placement.joins(joint("a", "b")) == ()
    label, *_ = placement.place(joint("a", "b"))

    assert placement.joins(joint("c", "ab")) == (label,)
    assert placement.thread_of(b"b") == label
    assert not placement.is_borne(b"b")
    assert placement.thread_of(b"z") is None


def test_nothing_is_written_that_has_not_changed() -> None:
    known = {each: Known(1, borne=True, detached=False) for each in (b"a", b"b")}
    placement = Placement(known, {1: Size(2, 2)})
    placement.place(joint("a", "b"))

    placed = placement.result()
    assert (dict(placed.nodes), placed.merged, placed.opened) == ({}, {}, frozenset())


# -- whatever the order --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Messages with their marks, and an order in which they can have come."""

    joints: tuple[Joint, ...]
    order: tuple[int, ...]
    cuts: frozenset[int]


def joined_by(joint: Joint, detached: frozenset[bytes]) -> set[bytes]:
    """T17, as the rule has it: all marks known."""
    if joint.detached:
        return {joint.own}
    followed = list(joint.references)
    for position, each in enumerate(joint.references):
        if each in detached:
            followed = list(joint.references[position:])
    return {joint.own, *joint.aliases, *followed}


def components(joints: Sequence[Joint]) -> frozenset[frozenset[bytes]]:
    """The naive oracle: unite sets that share a node until none do."""
    detached = frozenset(each.own for each in joints if each.detached)
    found: list[set[bytes]] = []
    for each in joints:
        one = joined_by(each, detached)
        touching = [other for other in found if other & one]
        found = [other for other in found if not other & one]
        found.append(one.union(*touching))
    return frozenset(map(frozenset, found))


IDS = st.sampled_from([bytes([each]) for each in b"abcdefgh"])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Random references over few ids, so that much hangs together; any order in which a detached message's id was
    not heard of before it came (L16, T17: else it would not have been detached)."""
    drawn = draw(
        st.lists(
            st.tuples(IDS, st.lists(IDS, max_size=1), st.lists(IDS, max_size=4, unique=True), st.booleans()),
            min_size=1,
            max_size=10,
        )
    )
    joints: list[Joint] = []
    for own, aliases, references, detached in drawn:
        first = all(each.own != own for each in joints)
        kept = tuple(each for each in references if each != own)
        joints.append(Joint(own, tuple(aliases), kept, detached and first and draw(st.booleans())))
    marks = frozenset(each.own for each in joints if each.detached)
    order: list[int] = []
    for position in draw(st.permutations(range(len(joints)))):
        heard = joined_by(joints[position], marks)
        order += [n for n, each in enumerate(joints) if each.detached and each.own in heard and n not in order]
        if position not in order:
            order.append(position)
    repeats = draw(st.lists(st.sampled_from(order), max_size=3))
    cuts = draw(st.frozensets(st.integers(1, len(order) + len(repeats))))
    return Case(tuple(joints), (*order, *repeats), cuts)


@given(cases())
def test_any_order_any_batches_any_repeats_give_the_connected_components(case: Case) -> None:
    """threading.md, Invariant."""
    shelf, batch = Shelf(), list[Joint]()
    for position, number in enumerate(case.order):
        if position in case.cuts:
            shelf.batch(batch)
            batch = []
        batch.append(case.joints[number])
    shelf.batch(batch)

    assert shelf.partition() == components(case.joints)
    assert {each for each, one in shelf.known.items() if one.detached} == {
        each.own for each in case.joints if each.detached
    }
    assert shelf.sizes_fit()


@pytest.mark.parametrize("batch", [1, 7])
def test_each_id_is_relabelled_a_logarithmic_number_of_times(batch: int) -> None:
    """threading.md, "In SQL": weighted union. A chain of replies whose mails come at random, and a knock-out."""
    count = 512
    chain = [Joint(b"%d" % n, references=(b"%d" % (n - 1),)) for n in range(1, count)]
    Random(1).shuffle(chain)
    knock_out = [
        Joint(b"round %d %d" % (step, n), references=(b"%d" % n, b"%d" % (n + step)))
        for step in (2**power for power in range(9))
        for n in range(0, count, 2 * step)
    ]
    for joints in (chain, knock_out):
        shelf = Shelf()
        for start in range(0, len(joints), batch):
            shelf.batch(joints[start : start + batch])

        assert len(shelf.partition()) == 1
        assert max(shelf.relabelled.values(), default=0) <= log2(len(shelf.known))
