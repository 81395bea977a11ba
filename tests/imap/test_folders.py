"""Which folders a mailbox follows."""

import pytest

from maillinkd.imap.folders import readable, resolve
from maillinkd.imap.response import Listed


def listed(*entries: str, delimiter: str = "/") -> list[Listed]:
    """`Name` or `Name \\Attribute \\Attribute`."""
    result = []
    for entry in entries:
        name, *attributes = entry.split(" \\")
        result.append(Listed(frozenset("\\" + each.lower() for each in attributes), delimiter, name.encode()))
    return result


MARKED = listed(
    "Sent \\Sent", "INBOX", "Drafts \\Drafts", "Spam \\Junk", "Bin \\Trash", "Work/A", "Work/A/old", "Work \\Noselect"
)
GERMAN = listed("inbox", "Gesendete Elemente", "Entw&APw-rfe", "Papierkorb", "Spam", "Kunden/M&APw-ller")
GMAIL = listed(
    "INBOX", "[Gmail] \\Noselect", "[Gmail]/All Mail \\All", "[Gmail]/Sent Mail \\Sent", "[Gmail]/Spam \\Junk"
)
COURIER = listed("INBOX", "INBOX.Sent", "INBOX.Trash", "INBOX.Customers.Sent", delimiter=".")
ODD = listed("INBOX", "*", "a*b", "axb", "[x]", "Nothing \\NonExistent")

CASES = {
    "names, in the order asked for": (MARKED, ["Work/A", "INBOX"], ["Work/A", "INBOX"], []),
    "INBOX in any case": (GERMAN, ["Inbox"], ["INBOX"], []),
    "special use": (MARKED, ["\\Sent", "\\TRASH"], ["Sent", "Bin"], []),
    "special use by well-known names": (GERMAN, ["\\Sent", "\\Junk"], ["Gesendete Elemente", "Spam"], []),
    "special use below INBOX, but not everybody's Sent": (COURIER, ["\\Sent"], ["INBOX.Sent"], []),
    "everything but Drafts, Junk and Trash": (MARKED, ["*"], ["INBOX", "Sent", "Work/A", "Work/A/old"], []),
    "everything, by well-known names": (GERMAN, ["*"], ["INBOX", "Gesendete Elemente", "Kunden/Müller"], []),
    "everything of a provider with brackets": (GMAIL, ["*"], ["INBOX", "[Gmail]/All Mail", "[Gmail]/Sent Mail"], []),
    "brackets are no pattern": (GMAIL, ["[Gmail]/All Mail"], ["[Gmail]/All Mail"], []),
    "\\All": (GMAIL, ["\\All"], ["[Gmail]/All Mail"], []),
    "a glob": (MARKED, ["Work/*"], ["Work/A", "Work/A/old"], []),
    "a glob for one level": (MARKED, ["Work/%"], ["Work/A"], []),
    "a glob for one character": (MARKED, ["Work/?"], ["Work/A"], []),
    "decoded names": (GERMAN, ["Kunden/M*er"], ["Kunden/Müller"], []),
    "each once": (MARKED, ["INBOX", "*", "\\Sent"], ["INBOX", "Sent", "Work/A", "Work/A/old"], []),
    "what is not there is said, the others stay": (MARKED, ["Nope", "INBOX", "\\Archive", "X*"], ["INBOX"],
                                                   ["Nope", "\\Archive", "X*"]),
    "what cannot be opened is not there": (MARKED, ["Work"], [], ["Work"]),
    "a name that looks like a pattern is a name": (ODD, ["*", "a*b", "[x]"], ["*", "a*b", "[x]"], []),
    "a mark on another folder makes a name a name": (
        listed("INBOX", "Sent", "Real \\Sent"), ["\\Sent"], ["Real"], []),
}  # fmt: skip


@pytest.mark.parametrize(("entries", "wanted", "found", "missing"), CASES.values(), ids=CASES.keys())
def test_resolve(entries: list[Listed], wanted: list[str], found: list[str], missing: list[str]) -> None:
    resolved = resolve(wanted, readable(entries))

    assert (found, missing) == ([folder.name for folder in resolved.folders], list(resolved.missing))


def test_a_name_that_cannot_be_sent_is_not_there() -> None:
    """A literal may hold a line end; put into a command it would be another command."""
    assert readable([Listed(frozenset(), "/", b"a\r\nb LOGOUT"), Listed(frozenset(), "/", b"\0")]) == ()


APART = listed("INBOX", "Entwu\u0308rfe", "Gesendete E-Mails/U\u0308ber")


@pytest.mark.parametrize("wanted", ["Entwürfe", "Entwu\u0308rfe", "Entw*rfe", "Entwü%"])
def test_letters_with_their_dots_apart_are_the_same_letters(wanted: str) -> None:
    """macOS makes such names, and whoever writes the configuration does not."""
    assert [folder.name for folder in resolve([wanted], readable(APART)).folders] == ["Entwu\u0308rfe"]


def test_of_two_that_differ_so_the_one_asked_for_is_followed() -> None:
    both = readable(listed("Entwu\u0308rfe", "Entwürfe"))

    assert [folder.name for folder in resolve(["Entwürfe"], both).folders] == ["Entwürfe"]


TWINS = {
    "UTF-8 beside modified UTF-7": [b"Entw&APw-rfe", "Entwürfe".encode()],
    "octets beside their escape": [b"a\xff", b"a\\xff"],
    "three that read alike": [b"&APw-", "ü".encode(), b"\\xc3\\xbc"],
    "NUL that hides": [b"&AAA-", b"&-AAA-"],
    "INBOX in another spelling": [b"INBOX", b"inbox&AAA-", b"&AEk-NBOX"],
}


@pytest.mark.parametrize("wires", TWINS.values(), ids=TWINS.keys())
def test_no_folder_hides_another(wires: list[bytes]) -> None:
    """Its mail would be silently absent; and each keeps its name, in whatever order the server lists them."""
    found = readable([Listed(frozenset(), "/", wire) for wire in wires])

    assert sorted(folder.wire for folder in found) == sorted(wires)
    assert len({folder.name for folder in found}) == len(wires)
    assert found == readable([Listed(frozenset(), "/", wire) for wire in reversed(wires)])


def test_the_name_on_the_wire_is_kept() -> None:
    """EXAMINE gets what LIST said, byte for byte."""
    assert [folder.wire for folder in resolve(["INBOX", "Kunden/Müller"], readable(GERMAN)).folders] == [
        b"inbox",
        b"Kunden/M&APw-ller",
    ]
