"""PURE: the settings that a domain publishes for mail programs, as Thunderbird made them known
(draft-ietf-mailmaint-autoconfig).

The document is a stranger's: no entities, no document type, at most `LARGEST` bytes of it.
"""

from urllib.parse import quote
from xml.etree import ElementTree

from maillinkd.imap.discover.offer import Auth, Offer, Tls, host_name

LARGEST = 65_536
"""Bytes. Real ones are below 10,000."""

_TLS: dict[str, Tls] = {"SSL": "implicit", "STARTTLS": "starttls"}
_AUTH: dict[str, Auth] = {
    "password-cleartext": "password",
    "plain": "password",
    "password-encrypted": "password",  # where CRAM-MD5 is offered PLAIN within TLS is, too
    "secure": "password",
    "OAuth2": "oauth2",
}
_OFFERS_LIMIT = 10


class Unusable(ValueError):
    """No offer is to be had from the document; says why. Safe to show."""


def addresses_of(domain: str, address: str) -> tuple[str, ...]:
    """Where a domain publishes its settings, over HTTPS alone: http, which the draft knows, could be anybody's."""
    return (
        f"https://autoconfig.{domain}/mail/config-v1.1.xml?emailaddress={quote(address)}",
        f"https://{domain}/.well-known/autoconfig/mail/config-v1.1.xml",
    )


def database_address(domain: str) -> str:
    """Where Thunderbird's database (ISPDB) has the settings of a domain. The address itself is not sent there."""
    return f"https://autoconfig.thunderbird.net/v1.1/{domain}"


def offers_in(document: bytes, address: str, source: str) -> tuple[Offer, ...]:
    """The IMAP servers that a document names, in its order. Raises Unusable if there is none with TLS."""
    root = _parsed(document)
    found: list[Offer] = []
    left_out: list[str] = []
    for server in root.iterfind("emailProvider/incomingServer[@type='imap']"):
        try:
            found.append(_offer(server, address, source))
        except ValueError as error:
            left_out.append(str(error))
        if len(found) + len(left_out) == _OFFERS_LIMIT:
            break
    if not found:
        raise Unusable("; ".join(dict.fromkeys(left_out)) or "names no IMAP server")
    return tuple(found)


class _NoDocumentType(ElementTree.TreeBuilder):
    """Entities are declared in a document type, which comes first: who refuses it expands none."""

    def doctype(self, name: str, public: str | None, system: str | None) -> None:
        raise Unusable("has a document type, which is not read")


def _parsed(document: bytes) -> ElementTree.Element:
    if len(document) > LARGEST:
        raise Unusable(f"is larger than {LARGEST} bytes")
    parser = ElementTree.XMLParser(target=_NoDocumentType())  # noqa: S314  # bounded, and without entities
    try:
        parser.feed(document)
        root: ElementTree.Element = parser.close()
    except (ElementTree.ParseError, LookupError) as error:  # LookupError: an encoding that nobody knows
        raise Unusable("is not XML") from error
    if root.tag != "clientConfig":
        raise Unusable("is not a clientConfig")
    return root


def _offer(server: ElementTree.Element, address: str, source: str) -> Offer:
    filled = {name: _filled(server.findtext(name, "").strip(), address) for name in ("hostname", "port", "username")}
    tls = _TLS.get(server.findtext("socketType", "").strip())
    if tls is None:
        raise ValueError("names an IMAP server without TLS, which is not used")
    try:
        host, port = host_name(filled["hostname"]), int(filled["port"])
    except ValueError:
        raise ValueError("names a host or a port that is none") from None
    if not 0 < port < 65_536:
        raise ValueError("names a host or a port that is none")
    named = [each.text.strip() for each in server.iterfind("authentication") if each.text]
    auth = tuple(dict.fromkeys(_AUTH[way] for way in named if way in _AUTH))
    if named and not auth:
        raise ValueError("names no way to sign in that maillinkd has")
    return Offer(
        host, port, tls, _usernames(filled["username"], address), source, evidence="https", auth=auth or ("password",)
    )


def _usernames(given: str, address: str) -> tuple[str, ...]:
    usable = given if given.isprintable() and len(given) < 1_000 else ""
    return tuple(dict.fromkeys(name for name in (usable, address, address.rpartition("@")[0]) if name))


def _filled(text: str, address: str) -> str:
    local, _, domain = address.rpartition("@")
    for placeholder, value in (("EMAILADDRESS", address), ("EMAILLOCALPART", local), ("EMAILDOMAIN", domain)):
        text = text.replace(f"%{placeholder}%", value)
    return text
