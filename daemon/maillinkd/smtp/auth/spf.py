"""SPF: may this host send mail in the name of this domain (RFC 7208). Evaluation alone; names are asked of `Dns`."""

import re
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_network
from typing import NamedTuple
from urllib.parse import quote

from maillinkd.smtp.auth.names import Address, Dns, DnsTemporary

MAX_LOOKUPS = 10
"""Terms that ask DNS, in all records together (RFC 7208, 4.6.4)."""
MAX_VOID = 2
"""Questions without an answer (4.6.4)."""
MAX_HOSTS = 10
"""MX hosts, and names of an address, that are looked up (4.6.4)."""
MAX_RECORD = 8_192
"""Octets of a record. Published ones stay below 2,000: they are to fit in a UDP answer (3.4)."""
MAX_NAME = 253


class Result(StrEnum):
    """RFC 7208, 2.6."""

    NONE = "none"
    NEUTRAL = "neutral"
    PASS = "pass"  # noqa: S105  # RFC 8601's word
    FAIL = "fail"
    SOFTFAIL = "softfail"
    TEMPERROR = "temperror"
    PERMERROR = "permerror"


@dataclass(frozen=True, slots=True)
class Query:
    """Whose mail comes from where."""

    client: Address
    sender: str
    """MAIL FROM; for the null sender `postmaster@` and the HELO name (2.4)."""
    helo: str

    @property
    def domain(self) -> str:
        return self.sender.rpartition("@")[2]


async def check_host(dns: Dns, query: Query) -> tuple[Result, str]:
    """The result for the domain of the sender, and what led to it, in a few words for people (4)."""
    client = query.client
    mapped = client.ipv4_mapped if isinstance(client, IPv6Address) else None
    local, _, domain = query.sender.rpartition("@")
    asked = Query(mapped or client, f"{local or 'postmaster'}@{domain}", query.helo)
    if not _is_initial_domain(domain):
        return Result.NONE, "no domain that could have a record"
    evaluation = _Evaluation(dns, asked)
    try:
        return await evaluation.of(domain), evaluation.why
    except DnsTemporary as error:
        return Result.TEMPERROR, str(error)
    except _Permanent as error:
        return Result.PERMERROR, str(error)


class _Permanent(Exception):
    """A record that cannot be interpreted (2.6.7)."""


class _Mechanism(NamedTuple):
    result: Result
    name: str
    target: str
    """A domain-spec, "" for the current domain."""
    prefixes: tuple[int, int]
    network: IPv4Network | IPv6Network | None


class _Record(NamedTuple):
    mechanisms: tuple[_Mechanism, ...]
    redirect: str | None


_QUALIFIERS = {"": Result.PASS, "+": Result.PASS, "-": Result.FAIL, "~": Result.SOFTFAIL, "?": Result.NEUTRAL}
_MECHANISM = re.compile(r"([-+~?]?)([A-Za-z0-9]+)(?=[:/]|\Z)(.*)", re.ASCII)
_MODIFIER = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=(.*)", re.ASCII)
_DUAL = re.compile(r"(?:(?<!/)/(?P<four>[0-9]{1,3}))?(?://(?P<six>[0-9]{1,3}))?\Z", re.ASCII)
_MACRO = re.compile(r"%(?:\{([slodiphcrtv])([0-9]{0,3})(r?)([-.+,/_=]*)\}|([%_-]))", re.IGNORECASE | re.ASCII)
_LITERALS = re.compile(r"[!-$&-~]*", re.ASCII)
_TOP_LABEL = re.compile(r"(?=[a-z0-9-]*[a-z-])[a-z0-9](?:[a-z0-9-]*[a-z0-9])?", re.IGNORECASE | re.ASCII)
_EXPLANATION_ONLY = frozenset("crt")
"""Macro letters that `exp` texts alone may have (7.2)."""


class _Evaluation:
    """One check: what was asked, and how often DNS was asked for it."""

    def __init__(self, dns: Dns, query: Query) -> None:
        self._dns = dns
        self._query = query
        self._lookups = 0
        self._void = 0
        self._names: tuple[str, ...] | None = None
        self.why = ""

    async def of(self, domain: str, *, included: bool = False) -> Result:
        """check_host() of RFC 7208, 4. Raises _Permanent and DnsTemporary."""
        records = [text for text in await self._dns.txt(domain) if _is_record(text)]
        if not records:
            if included:
                self._count_void()
            self.why = f"{domain} has no SPF record"
            return Result.NONE
        if len(records) > 1:
            raise _Permanent(f"{domain} has {len(records)} SPF records")
        record = _read(records[0], domain)
        for mechanism in record.mechanisms:
            if await self._matches(mechanism, domain):
                self.why = f"{mechanism.name} of {domain}"
                return mechanism.result
        if record.redirect is None:
            self.why = f"nothing in the record of {domain} matches"
            return Result.NEUTRAL
        self._count_lookup()
        target = await self._expand(record.redirect, domain)
        result = await self.of(target, included=True)
        if result is Result.NONE:  # 6.1
            raise _Permanent(f"redirect to {target}, which has no SPF record")
        return result

    async def _matches(self, mechanism: _Mechanism, domain: str) -> bool:
        name = mechanism.name
        if name == "all":
            return True
        if mechanism.network is not None:
            return self._query.client in mechanism.network
        self._count_lookup()
        target = await self._expand(mechanism.target, domain) if mechanism.target else domain
        match name:
            case "include":
                return await self._included(target)
            case "a":
                return await self._is_address_of(target, mechanism.prefixes)
            case "mx":
                return await self._is_exchanger_of(target, mechanism.prefixes)
            case "exists":
                return bool(await self._addresses(target, 4))
        return await self._validated_name(target) is not None  # ptr

    async def _included(self, target: str) -> bool:
        """RFC 7208, 5.2."""
        result = await self.of(target, included=True)
        if result is Result.NONE:
            raise _Permanent(f"includes {target}, which has no SPF record")
        return result is Result.PASS

    async def _is_exchanger_of(self, target: str, prefixes: tuple[int, int]) -> bool:
        hosts = await self._dns.mx(target)
        if not hosts:
            self._count_void()
        if len(hosts) > MAX_HOSTS:
            raise _Permanent(f"{target} has more than {MAX_HOSTS} MX records")
        for host in hosts:
            if await self._is_address_of(host, prefixes):
                return True
        return False

    async def _is_address_of(self, host: str, prefixes: tuple[int, int]) -> bool:
        client = self._query.client
        prefix = prefixes[0] if client.version == 4 else prefixes[1]
        found = await self._addresses(host, client.version)
        return any(client in ip_network((int(each), prefix), strict=False) for each in found)

    async def _addresses(self, host: str, version: int) -> tuple[Address, ...]:
        found = await self._dns.addresses(host, 6 if version == 6 else 4)
        if not found:
            self._count_void()
        return found

    async def _validated_name(self, domain: str) -> str | None:
        """A name of the client that leads back to it and lies in the domain, the domain itself if it is one (5.5)."""
        if self._names is None:
            try:
                self._names = (await self._dns.names(self._query.client))[:MAX_HOSTS]
            except DnsTemporary:
                self._names = ()
        wanted = domain.lower().rstrip(".")
        for name in sorted(self._names, key=lambda name: name.lower() != wanted):
            if name.lower() != wanted and not name.lower().endswith(f".{wanted}"):
                continue
            try:
                if self._query.client in await self._dns.addresses(name, 6 if self._query.client.version == 6 else 4):
                    return name
            except DnsTemporary:
                continue
        return None

    def _count_lookup(self) -> None:
        self._lookups += 1
        if self._lookups > MAX_LOOKUPS:
            raise _Permanent(f"more than {MAX_LOOKUPS} DNS look-ups")

    def _count_void(self) -> None:
        self._void += 1
        if self._void > MAX_VOID:
            raise _Permanent(f"more than {MAX_VOID} DNS look-ups without an answer")

    async def _expand(self, spec: str, domain: str) -> str:
        """A domain-spec with its macros replaced; without labels in front where it is too long (7.3)."""
        text, at = [], 0
        for macro in _MACRO.finditer(spec):
            text.append(spec[at : macro.start()])
            text.append(await self._value(macro, domain))
            at = macro.end()
        name = "".join([*text, spec[at:]]).removesuffix(".")
        while len(name) > MAX_NAME and "." in name:
            name = name.partition(".")[2]
        return name

    async def _value(self, macro: "re.Match[str]", domain: str) -> str:
        letter, digits, reverse, delimiters, escaped = macro.groups()
        if escaped:
            return {"%": "%", "_": " ", "-": "%20"}[escaped]
        query = self._query
        match letter.lower():
            case "s":
                value = query.sender
            case "l":
                value = query.sender.rpartition("@")[0]
            case "o":
                value = query.domain
            case "d":
                value = domain
            case "i":
                value = _dotted(query.client)
            case "p":
                value = await self._any_name(domain)
            case "v":
                value = "in-addr" if query.client.version == 4 else "ip6"
            case _:
                value = query.helo
        parts = re.split(f"[{re.escape(delimiters or '.')}]", value)
        if reverse:
            parts.reverse()
        value = ".".join(parts[-int(digits) :] if digits else parts)
        return quote(value, safe="") if letter.isupper() else value

    async def _any_name(self, domain: str) -> str:
        """7.3: the `p` macro, "unknown" where no name leads back."""
        return await self._validated_name(domain) or await self._first_name() or "unknown"

    async def _first_name(self) -> str | None:
        version = self._query.client.version
        for name in self._names or ():
            try:
                if self._query.client in await self._dns.addresses(name, 6 if version == 6 else 4):
                    return name
            except DnsTemporary:
                continue
        return None


def _is_initial_domain(domain: str) -> bool:
    """4.3: a name of several labels, none of them empty or too long."""
    labels = domain.removesuffix(".").split(".")
    return (
        len(domain) <= MAX_NAME
        and len(labels) > 1
        and not domain.startswith("[")
        and all(0 < len(label) <= 63 for label in labels)
    )


def _is_record(text: bytes) -> bool:
    """4.5: the version section, up to a space or the end."""
    return text[:6].lower() == b"v=spf1" and text[6:7] in (b"", b" ")


def _read(octets: bytes, domain: str) -> _Record:
    """4.6: all terms, so that an error anywhere is an error. Raises _Permanent."""
    if len(octets) > MAX_RECORD or not octets.isascii():
        raise _Permanent(f"the record of {domain} is too long or not ASCII")
    mechanisms: list[_Mechanism] = []
    modifiers: dict[str, str] = {}
    for term in octets.decode().split(" ")[1:]:
        if modifier := _MODIFIER.fullmatch(term):
            name = modifier[1].lower()
            _require_macros(modifier[2], domain, explains=name not in ("redirect", "exp"))
            if name in ("redirect", "exp"):
                _require_domain_spec(modifier[2], domain)
                if name in modifiers:
                    raise _Permanent(f"{name} stands twice in the record of {domain}")
            modifiers[name] = modifier[2]
        elif term:
            mechanisms.append(_mechanism(term, domain))
    return _Record(tuple(mechanisms), modifiers.get("redirect"))


def _mechanism(term: str, domain: str) -> _Mechanism:
    found = _MECHANISM.fullmatch(term)
    wrong = _Permanent(f"the record of {domain} has a term that is none: {term[:80]!a}")
    if found is None:
        raise wrong
    result, name, rest = _QUALIFIERS[found[1]], found[2].lower(), found[3]
    if name in ("ip4", "ip6"):
        return _Mechanism(result, name, "", (32, 128), _network(name, rest, wrong))
    if name == "all" and not rest:
        return _Mechanism(result, name, "", (32, 128), None)
    target, prefixes = rest[1:] if rest.startswith(":") else "", (32, 128)
    if name in ("a", "mx"):
        target, prefixes = _with_prefixes(rest, wrong)
    elif name not in ("include", "exists", "ptr") or (not target and (rest or name != "ptr")):
        raise wrong
    if target:
        _require_domain_spec(target, domain)
    elif rest.startswith(":"):
        raise wrong
    return _Mechanism(result, name, target, prefixes, None)


def _with_prefixes(rest: str, wrong: _Permanent) -> tuple[str, tuple[int, int]]:
    """5.3, 5.4 and 5.6: `:domain/24//64`, all of it optional."""
    found = _DUAL.search(rest)
    assert found is not None, "it matches the empty end too"
    target, four, six = rest[: found.start()], found["four"], found["six"]
    for prefix, most in ((four, 32), (six, 128)):
        if prefix is not None and (int(prefix) > most or (prefix[0] == "0" and prefix != "0")):
            raise wrong
    if target and not target.startswith(":"):
        raise wrong
    return target[1:], (int(four or 32), int(six or 128))


def _network(name: str, rest: str, wrong: _Permanent) -> IPv4Network | IPv6Network:
    prefix = rest.partition("/")[2]
    if not re.fullmatch(r":[0-9A-Fa-f:.]+(?:/(?:0|[1-9][0-9]{0,2}))?", rest, re.ASCII) or (
        prefix == "" and "/" in rest
    ):
        raise wrong
    try:
        return (IPv4Network if name == "ip4" else IPv6Network)(rest[1:], strict=False)
    except ValueError:
        raise wrong from None


def _require_macros(text: str, domain: str, *, explains: bool = False) -> None:
    """7.1: a macro-string."""
    at = 0
    for macro in _MACRO.finditer(text):
        letter, digits = macro[1], macro[2]
        if digits and int(digits) == 0:
            break
        if letter and letter.lower() in _EXPLANATION_ONLY and not explains:
            break
        if not _LITERALS.fullmatch(text, at, macro.start()):
            break
        at = macro.end()
    else:
        if _LITERALS.fullmatch(text, at):
            return
    raise _Permanent(f"the record of {domain} has a wrong macro: {text[:80]!a}")


def _require_domain_spec(text: str, domain: str) -> None:
    """7.1: a macro-string that ends with a macro or a top label."""
    _require_macros(text, domain)
    if any(macro.end() == len(text) and macro[1] for macro in _MACRO.finditer(text)):
        return
    _, dot, label = text.removesuffix(".").rpartition(".")
    if not dot or not _TOP_LABEL.fullmatch(label):
        raise _Permanent(f"the record of {domain} names no domain: {text[:80]!a}")


def _dotted(address: Address) -> str:
    """7.3: the `i` macro; of an IPv6 address its 32 digits."""
    return str(address) if address.version == 4 else ".".join(address.exploded.replace(":", ""))
