"""A second, naive implementation of linking.md and threading.md around the linker's pure functions.

Lists and dicts instead of tables; threads are found by uniting sets until nothing changes; a snapshot holds the whole
directory. Written from the rules, and knows nothing of `store` and `ingest`. It takes the steps of a conformance case
(tests/conformance/README.md).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any
from uuid import UUID

from maillinkd.directory.item import ItemKind, ItemRef
from maillinkd.linker.decision import EMPTY, Decision, Flag, Origin, Reason, Slot
from maillinkd.linker.policy import SWITCHES, Policy
from maillinkd.linker.rules import decide, decide_again, follow_directory, hand_over, merge, without_automatic
from maillinkd.linker.snapshot import Letter, Person, SlotItem, Snapshot
from maillinkd.mail.message import Participant, Role

Json = dict[str, Any]
IMAP, SMART_BCC = "imap", "smart_bcc"
ROLES = ((Role.FROM, "from"), (Role.REPLY_TO, "reply_to"), (Role.TO, "to"), (Role.CC, "cc"))
SLOT_KINDS = (ItemKind.DEAL, ItemKind.LEAD, ItemKind.PROJECT)
BASE58 = "123456789abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ"
DOMAIN, LOCAL_PART = "bcc.ourco.example", "ourco"


class Refused(Exception):
    """A hand may not do that, and nothing has changed."""


@dataclass(eq=False)
class Mail:
    """A message as it is kept."""

    number: int
    id: str
    own: str
    refers: tuple[str, ...]
    sent: datetime
    subject: str
    people: tuple[Participant, ...]
    mailboxes: set[str] = field(default_factory=set)
    detached: bool = False
    is_forward: bool = False
    named: ItemRef | None = None
    """The item whose Smart Bcc address it arrived at."""
    asks_row_3: ItemRef | None = None
    marks: set[Flag] = field(default_factory=set)
    title: str = ""
    """Its subject as it came."""

    @property
    def order(self) -> tuple[datetime, str, str, tuple[Participant, ...], int]:
        """L26; two of one id by what tells them apart."""
        return self.sent, self.id, self.title, self.people, self.number

    @property
    def sender(self) -> str:
        return next((each.address for each in self.people if each.role is Role.FROM), "")


@dataclass(eq=False)
class Thread:
    """A component, and what it is linked to. Hand acts carry the number of the act, others None."""

    number: int
    mails: list[Mail] = field(default_factory=list)
    slot: Slot = EMPTY
    links: dict[ItemRef, int | None] = field(default_factory=dict)
    tombstones: dict[ItemRef, int] = field(default_factory=dict)
    reason: Reason | None = None
    candidates: tuple[ItemRef, ...] = ()
    flags: frozenset[Flag] = frozenset()
    slot_lost: bool = False
    excluded: set[str] = field(default_factory=set)

    @property
    def age(self) -> tuple[datetime, int]:
        return min(mail.sent for mail in self.mails), self.number

    def hand_made(self) -> frozenset[ItemRef]:
        return frozenset(ref for ref, act in self.links.items() if act is not None)

    def by_hand(self, kind: ItemKind) -> frozenset[ItemRef]:
        return frozenset(ref for ref in self.hand_made() if ref.kind is kind)


@dataclass
class Scope:
    mails: list[Mail] = field(default_factory=list)
    threads: list[Thread] = field(default_factory=list)


def followed(mail: Mail, mails: Iterable[Mail]) -> set[str]:
    """T17: the ids that a message is joined to."""
    if mail.detached:
        return {mail.own}
    detached = {each.own for each in mails if each.detached}
    last = max((n for n, ref in enumerate(mail.refers) if ref in detached), default=0)
    return {mail.own, *mail.refers[last:]}


def components(mails: Sequence[Mail]) -> list[set[str]]:
    """The ids that hang together."""
    found: list[set[str]] = []
    for mail in mails:
        ids = followed(mail, mails)
        touching = [each for each in found if each & ids]
        found = [each for each in found if not each & ids] + [ids.union(*touching)]
    return found


def _of_both(one: tuple[Any, ...], other: tuple[Any, ...]) -> tuple[Any, ...]:
    """The longer one, then what the other has beside it; one that has nothing more changes nothing."""
    if set(other) <= set(one):
        return one
    longer, shorter = (one, other) if (len(one), other) > (len(other), one) else (other, one)
    return longer + tuple(each for each in shorter if each not in longer)


class World:
    """All scopes, the directory and the configuration, as a case sets them up."""

    def __init__(self, case: Json) -> None:
        self.users: dict[str, Json] = {user["name"]: dict(user) for user in case["users"]}
        self.teams: dict[str, Json] = case.get("teams", {})
        self.mailboxes: dict[str, Json] = case.get("mailboxes", {})
        self.policy_switches: Json = dict(case.get("policy", {}))
        self.forwarded: str | None = case.get("smart_bcc", {}).get("forwarded")
        self.items: dict[tuple[ItemKind, str], Json] = {}
        self.scopes: dict[tuple[str, str], Scope] = {}
        self.quarantine: list[tuple[str, str]] = []
        self.excluded: set[str] = set()
        self._numbers = count(1)
        self._clock = count(1)

    # -- the configuration ------------------------------------------------------------------------------------------

    @property
    def policy(self) -> Policy:
        given = dict(self.policy_switches)
        preset = given.pop("preset", "recommended")
        return Policy.of(preset, {name: value for name, value in given.items() if name in SWITCHES})

    def compared(self, address: str) -> str:
        local, at, domain = address.strip().lower().rpartition("@")
        if self.policy.ignore_plus_tags and local.partition("+")[0]:
            local = local.partition("+")[0]
        return f"{local}{at}{domain}"

    def is_internal(self, address: str) -> bool:
        """linking.md, Words."""
        ours = {self.compared(each) for user in self.users.values() for each in self._addresses_of(user)}
        ours |= {self.compared(box["username"]) for box in self.mailboxes.values() if "@" in box.get("username", "")}
        domain = self.compared(address).rpartition("@")[2]
        domains = ("ourco.example", DOMAIN, *self.policy_switches.get("internal_domains", ()))
        return self.compared(address) in ours or any(f".{domain}".endswith(f".{each}") for each in domains)

    def owner_of(self, address: str) -> str | None:
        """L14."""
        return next((name for name, user in self.users.items() if address in self._addresses_of(user)), None)

    def _addresses_of(self, user: Json) -> list[str]:
        return [each.lower() for each in (user["address"], *user.get("aliases", ()))]

    def auto_link(self, owner: str, mailboxes: Iterable[str]) -> bool:
        """Row 6."""
        who = self.users.get(owner) or self.teams.get(owner) or {}
        boxes = [self.mailboxes.get(name, {}).get("auto_link", True) for name in mailboxes]
        return bool(who.get("auto_link", True) and (not boxes or any(boxes)))

    def may_change(self, user: str, owner: str) -> bool:
        """L17."""
        if user not in self.users:
            return False
        members = self.teams.get(owner, {}).get("members", ())
        return user == owner or user in members or bool(self.users[user].get("admin"))

    # -- the directory ----------------------------------------------------------------------------------------------

    def item(self, ref: ItemRef) -> Json | None:
        return self.items.get((ref.kind, ref.key))

    def deal_of(self, lead: ItemRef) -> ItemRef | None:
        """L10."""
        if lead.kind is not ItemKind.LEAD:
            return None
        deals = [
            each
            for each in self.items.values()
            if each["ref"].kind is ItemKind.DEAL
            and str(each.get("converted_from") or "").lower() == lead.key
            and not each.get("deleted")
        ]
        return min(deals, key=lambda deal: deal["imported"])["ref"] if deals else None

    def is_open(self, item: Json) -> bool:
        """linking.md, Words."""
        if item.get("deleted") or item.get("archived"):
            return False
        if item["ref"].kind is ItemKind.LEAD:
            return self.deal_of(item["ref"]) is None
        return (item.get("status") or "open") == "open"

    def living(self, kind: ItemKind, id_: str | None) -> ItemRef | None:
        found = self.items.get((kind, (id_ or "").lower()))
        return found["ref"] if found and not found.get("deleted") else None

    def _persons(self) -> dict[ItemRef, Person]:
        return {
            each["ref"]: Person(each["ref"], self.living(ItemKind.ORGANIZATION, each.get("organization")))
            for each in self.items.values()
            if each["ref"].kind is ItemKind.PERSON and not each.get("deleted")
        }

    def _slot_items(self) -> dict[ItemRef, SlotItem]:
        found = {}
        for each in self.items.values():
            if each["ref"].kind in SLOT_KINDS:
                added = each.get("added_at")
                partakers = (self.living(ItemKind.PERSON, id_) for id_ in each.get("participants") or ())
                found[each["ref"]] = SlotItem(
                    each["ref"],
                    self.is_open(each),
                    datetime.fromisoformat(added).astimezone(UTC) if added else datetime.now(UTC),
                    self._named(ItemKind.PERSON, each.get("person")),
                    self._named(ItemKind.ORGANIZATION, each.get("organization")),
                    frozenset(ref for ref in partakers if ref is not None),
                )
        return found

    def _named(self, kind: ItemKind, id_: str | None) -> ItemRef | None:
        """A reference as the directory shows it; to what is not known or is deleted, as it was given."""
        return (self.living(kind, id_) or ItemRef(kind, id_)) if id_ else None

    # -- what a rule may know ---------------------------------------------------------------------------------------

    def look(self, owner: str, scope: Scope, thread: Thread, new: Sequence[Mail] = ()) -> Snapshot:
        mails = sorted(thread.mails, key=lambda mail: mail.order)
        letters = tuple(self._letter(mail, new=mail in new) for mail in mails)
        persons = self._persons()
        known: dict[str, list[ItemRef]] = {}
        for ref in sorted(persons):
            for address in self.items[ref.kind, ref.key].get("addresses") or ():
                listed = known.setdefault(self.compared(address), [])
                if ref not in listed:
                    listed.append(ref)
        addresses = {each.address for letter in letters for each in letter.participants}
        borne = {mail.own for mail in scope.mails}
        ids = [mail.own for mail in mails]
        return Snapshot(
            letters=letters,
            policy=self.policy,
            internal=frozenset(filter(self.is_internal, addresses)),
            known={address: tuple(refs) for address, refs in known.items() if not self.is_internal(address)},
            persons=persons,
            items=self._slot_items(),
            slot=thread.slot,
            hand_persons=thread.by_hand(ItemKind.PERSON),
            hand_organizations=thread.by_hand(ItemKind.ORGANIZATION),
            tombstones=frozenset(thread.tombstones),
            auto_link=self.auto_link(owner, {box for mail in mails for box in mail.mailboxes}),
            start_unknown=not borne.issuperset(mails[0].refers),
            duplicate_message_id=len(set(ids)) < len(ids),
        )

    def _letter(self, mail: Mail, *, new: bool) -> Letter:
        people = tuple(Participant(each.role, self.compared(each.address)) for each in mail.people)
        return Letter(
            mail.id,
            mail.sent,
            people,
            has_references=bool(mail.refers),
            new=new,
            names=mail.asks_row_3 if new else None,
            marks=frozenset(mail.marks),
        )

    def settle(self, thread: Thread, decision: Decision, snapshot: Snapshot) -> None:
        """Takes a decision over."""
        thread.slot, thread.reason, thread.candidates = decision.slot, decision.reason, decision.candidates
        self._settle_people(thread, decision.links.persons | decision.links.organizations)
        thread.flags = decision.links.flags
        self.excluded |= {snapshot.letters[position].message_id for position in decision.excluded}

    def _settle_people(self, thread: Thread, wanted: Iterable[ItemRef]) -> None:
        by_hand = {ref: act for ref, act in thread.links.items() if act is not None}
        thread.links = dict.fromkeys(wanted) | by_hand

    # -- mail -------------------------------------------------------------------------------------------------------

    def sync(self, mails: Sequence[Json]) -> None:
        """One batch of synced or imported mail: placed first, then each thread touched is decided (L26)."""
        by_owner: dict[str, list[Mail]] = {}
        for given in sorted(mails, key=lambda each: (each["date"], each["id"])):
            owner = self.mailboxes.get(given["mailbox"], {}).get("owner", given["mailbox"])
            by_owner.setdefault(owner, []).append(self._read(given, {given["mailbox"]}))
        for owner, batch in by_owner.items():
            scope = self.scopes.setdefault((owner, IMAP), Scope())
            new = []
            for mail in batch:
                twin = self._stored(scope, mail)
                if twin is not None:
                    twin.mailboxes |= mail.mailboxes
                    if self._takes_more(scope, twin, mail) and twin not in new:
                        new.append(twin)
                    continue
                self._join(scope, mail)
                new.append(mail)
            for thread in scope.threads:
                mine = [mail for mail in new if mail in thread.mails]
                if mine:
                    snapshot = self.look(owner, scope, thread, mine)
                    self.settle(thread, decide(snapshot), snapshot)

    def deliver(self, given: Json) -> None:
        """One Smart Bcc mail (L13 to L16), its author authenticated."""
        owner = self.owner_of(_addresses(given["from"])[0])
        if owner is None:
            self.quarantine.append((given["id"], "smart_bcc_unknown_sender"))
            return
        self.take(owner, given)

    def take(self, owner: str, given: Json) -> None:
        named = [ref for ref in map(_item_named, _list(given, "smart_bcc")) if ref is not None]
        known = [item for item in map(self._item_meant, named) if item is not None]
        known = list(dict.fromkeys(known))
        scope = self.scopes.setdefault((owner, SMART_BCC), Scope())
        mail = self._read(given, set())
        mail.named = mail.asks_row_3 = known[0] if known else None
        visible = any(
            address.endswith(f"@{DOMAIN}") for address in _addresses([*_list(given, "to"), *_list(given, "cc")])
        )
        external = any(not self.is_internal(each.address) for each in mail.people)
        mail.is_forward = visible and not external
        if not external:
            found = (each for each in self._forwarded(given) if not self.is_internal(each))
            mail.people += tuple(Participant(Role.FORWARDED, each) for each in found)
        if len(known) < len(set(named)):
            mail.marks.add(Flag.SMART_BCC_UNKNOWN_ITEM)
        twin = self._stored(scope, mail)
        if twin is not None:
            if self._takes_more(scope, twin, mail):
                twin.asks_row_3 = None
                self._decide_alone(owner, scope, self._where(scope, twin), twin)
            self._come_again(owner, scope, twin, mail)
        else:
            self._detach(scope, mail)
            self._decide_alone(owner, scope, self._join(scope, mail), mail)
        for item in known[1:]:
            self._copy(owner, scope, mail, item)

    def _copy(self, owner: str, scope: Scope, mail: Mail, item: ItemRef) -> None:
        """L16 (c): a detached copy of its own, which a repeated delivery finds again."""
        own = f"{mail.id} for {item}"
        if not self._is_filed_for(scope, mail, item):
            copy = Mail(
                next(self._numbers), mail.id, own, mail.refers, mail.sent, mail.subject, mail.people,
                detached=True, is_forward=mail.is_forward, named=item, asks_row_3=item,
                marks={Flag.SMART_BCC_DUPLICATE}, title=mail.title,
            )  # fmt: skip
            self._decide_alone(owner, scope, self._join(scope, copy), copy)

    def _is_filed_for(self, scope: Scope, mail: Mail, item: ItemRef) -> bool:
        """Whether the mail or a copy of it is there for this item, or for the lead that it was."""
        same = (mail.id, mail.sender, mail.subject, mail.sent)
        named = [each.named for each in scope.mails if (each.id, each.sender, each.subject, each.sent) == same]
        return any(item in (ref, self._item_meant(ref)) for ref in named if ref is not None)

    def _come_again(self, owner: str, scope: Scope, twin: Mail, mail: Mail) -> None:
        """L13, L16: a stored message, delivered again to another item's address, or to an unknown item's."""
        thread = self._where(scope, twin)
        item, marks = mail.named, mail.marks & {Flag.SMART_BCC_UNKNOWN_ITEM}
        twin.asks_row_3 = None
        if item is not None and item != thread.slot.item and not self._is_filed_for(scope, mail, item):
            if thread.slot.item is None:
                twin.asks_row_3 = item
            else:
                marks.add(Flag.SMART_BCC_CONFLICT)
        if twin.asks_row_3 is not None or not marks <= twin.marks:
            twin.marks |= marks
            self._decide_alone(owner, scope, thread, twin)

    def _where(self, scope: Scope, mail: Mail) -> Thread:
        (thread,) = [each for each in scope.threads if mail in each.mails]
        return thread

    def _takes_more(self, scope: Scope, twin: Mail, mail: Mail) -> bool:
        """T11: a copy may name people and references that the one which came first does not."""
        if set(mail.people) <= set(twin.people) and set(mail.refers) <= set(twin.refers):
            return False
        twin.people, twin.refers = _of_both(twin.people, mail.people), _of_both(twin.refers, mail.refers)
        self._unite(scope, twin)
        return True

    def _decide_alone(self, owner: str, scope: Scope, thread: Thread, mail: Mail) -> None:
        snapshot = self.look(owner, scope, thread, [mail])
        self.settle(thread, decide(snapshot), snapshot)

    def _detach(self, scope: Scope, mail: Mail) -> None:
        """L16 (a), (b); T17."""
        ids = followed(mail, scope.mails)
        parts = [part for part in components(scope.mails) if part & ids]
        threads = [each for each in scope.threads if any(m.own in part for part in parts for m in each.mails)]
        if not threads:
            return
        slot, _ = merge([(each.age, each.slot) for each in threads])
        other_item = mail.named is not None and slot.item is not None and mail.named != slot.item
        if any(mail.own in part for part in parts):
            if other_item:
                mail.marks.add(Flag.SMART_BCC_CONFLICT)
                mail.asks_row_3 = None
            return
        last = mail.refers[-1:]
        stored = [each for thread in threads for each in thread.mails]
        forwarded = mail.is_forward and any(
            (each.own,) == last or (each.is_forward and each.refers[-1:] == last) for each in stored if last
        )
        if slot.item is not None and (other_item or forwarded):
            mail.detached = True
            mail.marks.add(Flag.SMART_BCC_DUPLICATE)

    def _item_meant(self, ref: ItemRef) -> ItemRef | None:
        """Row 3, L10, L11."""
        deal = self.deal_of(ref)
        item = self.item(deal or ref)
        return item["ref"] if item and not item.get("deleted") else None

    def _forwarded(self, given: Json) -> Iterator[str]:
        """L15: the attached message, else the header block in the text."""
        mode = self.forwarded or ("off" if self.policy.preset == "pipedrive-strict" else "attached+inline")
        if mode == "off":
            return
        if "attached" in given:
            yield from _addresses([each for _, name in ROLES for each in _list(given["attached"], name)])
            return
        lines = re.findall(r"(?mi)^(?:From|Reply-To|To|Cc): (.*)$", given.get("body", ""))
        yield from _addresses(lines)

    def _read(self, given: Json, mailboxes: set[str]) -> Mail:
        people = tuple(
            Participant(role, address)
            for role, name in ROLES
            for address in dict.fromkeys(_addresses(_list(given, name)))
        )
        refers = [*given.get("references", ()), *([given["in_reply_to"]] if "in_reply_to" in given else ())]
        sent = datetime.fromisoformat(given["date"]).astimezone(UTC)
        subject = re.sub(r"(?i)^((re|fwd?):\s*)+", "", given.get("subject", "New roof"))
        number, id_ = next(self._numbers), given["id"]
        refers = [ref for ref in dict.fromkeys(refers) if ref != id_]  # threading.md T8
        title = given.get("subject", "New roof")
        return Mail(number, id_, id_, tuple(refers), sent, subject, people, mailboxes, title=title)

    def _stored(self, scope: Scope, mail: Mail) -> Mail | None:
        """T11."""
        same = (mail.own, mail.sender, mail.subject, mail.sent)
        return next((each for each in scope.mails if (each.own, each.sender, each.subject, each.sent) == same), None)

    def _join(self, scope: Scope, mail: Mail) -> Thread:
        scope.mails.append(mail)
        kept = self._unite(scope, mail)
        kept.mails.append(mail)
        return kept

    def _unite(self, scope: Scope, mail: Mail) -> Thread:
        """The threads that hang together with this mail, as one."""
        (part,) = [each for each in components(scope.mails) if mail.own in each]
        threads = [each for each in scope.threads if any(other.own in part for other in each.mails)]
        kept = self._merge(threads) if threads else Thread(next(self._numbers))
        scope.threads = [each for each in scope.threads if each not in threads] + [kept]
        return kept

    def _merge(self, threads: Sequence[Thread]) -> Thread:
        """L21."""
        kept, *others = sorted(threads, key=lambda each: each.age)
        kept.slot, lost = merge([(each.age, each.slot) for each in threads])
        kept.slot_lost = bool(lost) or any(each.slot_lost for each in threads)
        for other in others:
            kept.mails += other.mails
            for ref, act in other.links.items():
                kept.links[ref] = max(act or 0, kept.links.get(ref) or 0) or None
            for ref, number in other.tombstones.items():
                kept.tombstones[ref] = max(number, kept.tombstones.get(ref, 0))
        for ref in kept.links.keys() & kept.tombstones.keys():
            if (kept.links[ref] or 0) > kept.tombstones[ref]:
                del kept.tombstones[ref]
            else:
                del kept.links[ref]
        return kept

    # -- the directory changes, and hands ---------------------------------------------------------------------------

    def learn(self, lines: Iterable[Json]) -> None:
        """Item lines; then L6 and L10 for every thread that there is."""
        for line in lines:
            ref = ItemRef(ItemKind(line["kind"]), line["id"])
            known = self.items.setdefault((ref.kind, ref.key), {"ref": ref, "imported": next(self._clock)})
            known.update({name: value for name, value in line.items() if name not in ("kind", "id")})
        for (owner, _), scope in self.scopes.items():
            for thread in scope.threads:
                self._follow(owner, scope, thread)

    def _follow(self, owner: str, scope: Scope, thread: Thread) -> None:
        deal = self.deal_of(thread.slot.item) if thread.slot.item else None
        if deal is not None:
            thread.slot = hand_over(thread.slot, deal)
            thread.reason, thread.candidates = Reason.CONVERTED_LEAD_FOLLOWED, ()
        links = follow_directory(self.look(owner, scope, thread), thread.reason or Reason.NO_KNOWN_PERSON)
        self._settle_people(thread, links.persons | links.organizations)
        thread.flags = links.flags

    def link(self, given: Json) -> None:
        """L17, L18."""
        owner, scope, thread = self._thread_of(given)
        ref = ItemRef.parse(given["item"])
        chosen = self.deal_of(ref) or ref
        item = self.item(chosen)
        if not self.may_change(given["as"], owner) or item is None or item.get("deleted"):
            raise Refused
        if chosen.kind not in (*SLOT_KINDS, ItemKind.PERSON, ItemKind.ORGANIZATION):
            raise Refused
        if chosen.kind in SLOT_KINDS:
            thread.slot = Slot(item["ref"], Origin.HAND, reason=Reason.MANUAL_LINK_KEPT)
            thread.slot_lost = False
        else:
            thread.tombstones.pop(item["ref"], None)
            thread.links[item["ref"]] = next(self._clock)
        self._ask_all(owner, scope, thread)

    def unlink(self, given: Json) -> None:
        owner, scope, thread = self._thread_of(given)
        ref = ItemRef.parse(given["item"])
        known = self.item(ref)
        meant = self.deal_of(ref) or (known["ref"] if known else ref)
        if not self.may_change(given["as"], owner):
            raise Refused
        if meant.kind in SLOT_KINDS:
            if thread.slot.item != meant:
                raise Refused
            thread.slot, thread.slot_lost = Slot(origin=Origin.HAND), False
        else:
            if meant not in thread.links:
                raise Refused
            del thread.links[meant]
            thread.tombstones[meant] = next(self._clock)
        self._ask_all(owner, scope, thread)

    def _ask_all(self, owner: str, scope: Scope, thread: Thread) -> None:
        snapshot = self.look(owner, scope, thread)
        self.settle(thread, decide(snapshot), snapshot)

    def _thread_of(self, given: Json) -> tuple[str, Scope, Thread]:
        (found,) = [
            (owner, scope, thread)
            for (owner, channel), scope in self.scopes.items()
            for thread in scope.threads
            if channel == given.get("channel", IMAP) and given.get("owner", owner) == owner
            if any(mail.id == given["thread_of"] for mail in thread.mails)
        ]
        return found

    def decide_again(self) -> None:
        """L28. A thread whose answer is the same keeps the decision that it has."""
        for (owner, _), scope in self.scopes.items():
            for thread in scope.threads:
                if thread.slot.origin not in (None, Origin.AUTO):
                    continue
                before = thread.slot.item, thread.links.keys(), thread.reason, thread.candidates
                empty = replace(self.look(owner, scope, thread), slot=without_automatic(thread.slot))
                decision = decide_again(empty)
                wanted = decision.links.persons | decision.links.organizations | thread.hand_made()
                after = decision.slot.item, wanted, decision.reason, decision.candidates
                if before[:2] != after[:2] or (after[0] is None and before != after):
                    self.settle(thread, decision, empty)

    # -- cases ------------------------------------------------------------------------------------------------------

    def step(self, step: Json) -> None:
        """Takes a step of a case. Raises Refused where a hand is refused."""
        ((what, given),) = step.items()
        match what:
            case "mail" if "mailbox" in given:
                self.sync([given])
            case "mail":
                self.deliver(given)
            case "mails":
                self.sync(given)
            case "items":
                self.learn(given)
            case "link":
                self.link(given)
            case "unlink":
                self.unlink(given)
            case _:
                raise NotImplementedError(what)

    def shown(self) -> list[Json]:
        """The threads as a case expects them."""
        return [
            self._shown(owner, channel, thread)
            for (owner, channel), scope in self.scopes.items()
            for thread in scope.threads
        ]

    def _shown(self, owner: str, channel: str, thread: Thread) -> Json:
        flags = thread.flags.union(*(mail.marks for mail in thread.mails))
        if thread.slot_lost:
            flags |= {Flag.SLOT_LOST_IN_MERGE}
        return {
            "owner": owner,
            "channel": channel,
            "messages": sorted(mail.id for mail in thread.mails),
            "slot": thread.slot.item and str(thread.slot.item),
            "reason": str(thread.reason),
            "persons": self._seen(thread, ItemKind.PERSON),
            "organizations": self._seen(thread, ItemKind.ORGANIZATION),
            "candidates": set(map(str, thread.candidates)),
            "flags": set(map(str, flags)),
        }

    def _seen(self, thread: Thread, kind: ItemKind) -> set[str]:
        """L6: what is deleted is not linked; what a hand had linked is there again when it is."""
        return {str(ref) for ref in thread.links if ref.kind is kind and self.living(kind, ref.id)}


def _list(given: Json, name: str) -> list[str]:
    value = given.get(name) or []
    return [value] if isinstance(value, str) else list(value)


def _addresses(values: str | Iterable[str]) -> list[str]:
    """Of `Name <address>` or a bare address, in lower case."""
    return [
        (re.findall(r"<([^<>]*)>", value) or [value])[-1].strip().lower()
        for value in ([values] if isinstance(values, str) else values)
    ]


def _item_named(recipient: str) -> ItemRef | None:
    """L13. The universal address names none."""
    _, _, tag = recipient.rpartition("@")[0].partition("+")
    if token := re.fullmatch(r"1\+lead(.+)", tag, re.IGNORECASE):
        number = 0
        for digit in token[1]:
            number = number * 58 + BASE58.index(digit)
        return ItemRef(ItemKind.LEAD, str(UUID(int=number)))
    if named := re.fullmatch(r"(deal|lead|project)(.+)", tag, re.IGNORECASE):
        return ItemRef(ItemKind(named[1].lower()), named[2])
    return None
