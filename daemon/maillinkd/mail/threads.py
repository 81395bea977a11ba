"""Which messages belong together (threading.md): connected components of message-ids, found as messages come.

A thread here is a label. The labels of the store are positive; a thread that a batch opens gets a negative one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from maillinkd.mail.message import Message

NODE_BYTES = 16


def node(scope: int, message_id: str) -> bytes:
    """The hash under which an id is stored and compared in its scope (T4)."""
    hash_ = _keyed(scope).copy()
    hash_.update(message_id.encode("utf-8", "surrogateescape"))
    return hash_.digest()


@lru_cache(maxsize=64)
def _keyed(scope: int) -> blake2b:
    """Nothing hashed yet: to be copied, which takes half as long as to make one."""
    return blake2b(digest_size=NODE_BYTES, key=scope.to_bytes(8, "big"))


def copy_id(message_id: str, item: str) -> str:
    """The id that a detached copy bears: of the mail's id and the item it is for (T17). No mail can refer to it."""
    return f"copy {item.lower()} {message_id}"


def references_of(message: Message) -> tuple[str, ...]:
    """The ids that a message refers to, in order: References, then what In-Reply-To adds."""
    if not message.in_reply_to:
        return message.references
    return tuple(dict.fromkeys(message.references + message.in_reply_to))


class Joint(NamedTuple):
    """What a message joins: the ids that it bears and those that it refers to, as nodes."""

    own: bytes
    """The node of its id; the message is found under it."""
    aliases: tuple[bytes, ...] = ()
    references: tuple[bytes, ...] = ()
    detached: bool = False


class Known(NamedTuple):
    """What the store knows of a node."""

    thread: int
    borne: bool
    """A stored message bears it; else it is only heard of."""
    detached: bool
    """A detached message bears it (T17)."""


class Spot(NamedTuple):
    """Where a message was put."""

    label: int
    bridge: bool
    joined: tuple[int, ...]
    """The threads that it joined; none for one that opened a thread."""


class Size(NamedTuple):
    """How many ids and messages a stored thread has."""

    ids: int
    messages: int


@dataclass(frozen=True, slots=True)
class Placed:
    """Where the batch put its nodes."""

    nodes: Mapping[bytes, Known]
    """Every node that is new or has changed, with the thread that it lies in now."""
    merged: Mapping[int, frozenset[int]]
    """Surviving stored label to the stored labels that went up in it."""
    opened: frozenset[int]
    """Labels of threads that did not exist before."""


class Placement:
    """Places the messages of a batch, one after the other, in the threads of a scope.

    The partition that results is that of the connected components, whatever the order (threading.md, Invariant).
    """

    def __init__(self, known: Mapping[bytes, Known], sizes: Mapping[int, Size]) -> None:
        """`known`: what the store knows of the batch's nodes; `sizes`: of the threads they lie in."""
        self._known = dict(known)
        self._any_detached = any(each.detached for each in known.values())
        self._parent: dict[int, int] = {}
        self._sizes = dict(sizes)
        self._changed: set[bytes] = set()
        self._next = -1

    def thread_of(self, node_: bytes) -> int | None:
        """The thread that the node lies in now, None if it was never heard of."""
        known = self._known.get(node_)
        return None if known is None else self._find(known.thread)

    def is_borne(self, node_: bytes) -> bool:
        known = self._known.get(node_)
        return known is not None and known.borne

    def joins(self, joint: Joint) -> tuple[int, ...]:
        """The threads that the message would join, were it placed now; none for one that opens a thread."""
        return self._joined(self._nodes(joint))

    def place(self, joint: Joint, *, again: bool = False) -> Spot:
        """Joins the message to its threads. `again`: it is placed already, and joins what another copy of it names.

        A bridge joins two threads of two messages or more each (threading.md, "Caution belongs to the linker").
        """
        nodes = self._nodes(joint)
        threads = self._joined(nodes)
        if not threads:
            label, bridge = self._open(), False
        elif len(threads) == 1:
            label, bridge = threads[0], False
        else:
            bridge = sum(self._sizes[thread].messages >= 2 for thread in threads) >= 2
            label = self._unite(threads)
        fresh = 0
        for each in nodes:
            known = self._known.get(each)
            bears = each == joint.own or each in joint.aliases
            detached = joint.detached and each == joint.own
            if known is None:
                fresh += 1
                self._changed.add(each)
            else:
                bears, detached = bears or known.borne, detached or known.detached
                if (known.borne, known.detached) != (bears, detached):
                    self._changed.add(each)
            self._known[each] = Known(label, bears, detached)
            self._any_detached |= detached
        size = self._sizes[label]
        self._sizes[label] = Size(size.ids + fresh, size.messages + (not again))
        return Spot(label, bridge, threads)

    def result(self) -> Placed:
        """What there is to write once the batch is placed."""
        nodes = {}
        for each in self._changed:
            known = self._known[each]
            nodes[each] = Known(self._find(known.thread), known.borne, known.detached)
        merged: dict[int, set[int]] = {}
        for label in self._parent:
            survivor = self._find(label)
            if label > 0 and survivor > 0:
                merged.setdefault(survivor, set()).add(label)
        opened = frozenset(label for label in self._sizes if label < 0 and self._find(label) == label)
        return Placed(nodes, {survivor: frozenset(labels) for survivor, labels in merged.items()}, opened)

    def size(self, label: int) -> Size:
        """How many ids and messages a thread has now."""
        return self._sizes[self._find(label)]

    def _nodes(self, joint: Joint) -> tuple[bytes, ...]:
        """T17: detached messages join nothing but their own id; who refers to one joins the last such one and
        what follows it."""
        if joint.detached:
            return (joint.own,)
        references: Sequence[bytes] = joint.references
        if self._any_detached:
            last = max((i for i, each in enumerate(references) if self._is_detached(each)), default=0)
            references = references[last:]
        return tuple(dict.fromkeys((joint.own, *joint.aliases, *references)))

    def _joined(self, nodes: Iterable[bytes]) -> tuple[int, ...]:
        known = self._known
        return tuple(dict.fromkeys(self._find(known[each].thread) for each in nodes if each in known))

    def _is_detached(self, node_: bytes) -> bool:
        known = self._known.get(node_)
        return known is not None and known.detached

    def _open(self) -> int:
        label = self._next
        self._next -= 1
        self._sizes[label] = Size(0, 0)
        return label

    def _unite(self, threads: Iterable[int]) -> int:
        """Weighted union: the label with the most ids stays, and a stored one stays before a new one."""
        ranked = sorted(threads, key=lambda label: (label < 0, -self._sizes[label].ids, label))
        survivor, *others = ranked
        for label in others:
            self._parent[label] = survivor
            mine, theirs = self._sizes[survivor], self._sizes[label]
            self._sizes[survivor] = Size(mine.ids + theirs.ids, mine.messages + theirs.messages)
        return survivor

    def _find(self, label: int) -> int:
        root = label
        while root in self._parent:
            root = self._parent[root]
        while label != root:
            self._parent[label], label = root, self._parent[label]
        return root
