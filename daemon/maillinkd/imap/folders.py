"""PURE: which of a server's folders a mailbox follows: names, globs, special use (RFC 6154)."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from unicodedata import normalize

from maillinkd.imap import utf7
from maillinkd.imap.response import Listed

_UNREADABLE = frozenset({"\\noselect", "\\nonexistent"})
_UNSENDABLE = frozenset(b"\0\r\n")
"""Octets that no command can carry: only a server that means harm puts them into a name."""
_LEFT_OUT = ("\\drafts", "\\junk", "\\trash")

_WELL_KNOWN = {
    "\\sent": (
        "sent|sent items|sent mail|sent messages|sent-mail|gesendet|gesendete elemente|gesendete objekte|"
        "gesendete nachrichten|envoyés|éléments envoyés|messages envoyés|enviados|elementos enviados|"
        "itens enviados|inviati|inviata|posta inviata|verzonden|verzonden items|verzonden berichten|skickat|"
        "skickade|sendt|sendte elementer|lähetetyt|wysłane|elementy wysłane|odeslané|elküldött|отправленные|"
        "надіслані|gönderilmiş öğeler|送信済み|送信済みアイテム|已发送|已发送邮件|寄件備份|보낸편지함"
    ),
    "\\drafts": (
        "drafts|draft|entwürfe|brouillons|borradores|rascunhos|bozze|concepten|utkast|kladder|luonnokset|"
        "szkice|wersje robocze|koncepty|rozepsané|piszkozatok|черновики|чернетки|taslaklar|下書き|草稿|草稿箱|"
        "임시보관함"
    ),
    "\\junk": (
        "junk|junk e-mail|junk email|junk mail|bulk mail|spam|spamverdacht|unerwünscht|courrier indésirable|"
        "indésirables|pourriel|correo no deseado|lixo eletrônico|lixo eletrónico|posta indesiderata|"
        "ongewenste e-mail|ongewenst|skräppost|uønsket e-post|roskaposti|wiadomości-śmieci|niechciane|nevyžádaná|"
        "levélszemét|спам|нежелательная почта|небажана пошта|önemsiz e-posta|迷惑メール|垃圾邮件|垃圾郵件|스팸편지함"
    ),
    "\\trash": (
        "trash|deleted|deleted items|deleted messages|bin|papierkorb|gelöscht|gelöschte elemente|"
        "gelöschte objekte|corbeille|éléments supprimés|papelera|elementos eliminados|lixeira|"
        "itens excluídos|cestino|posta eliminata|prullenbak|verwijderd|verwijderde items|papperskorg|"
        "borttaget|borttagna objekt|papirkurv|slettet|slettede elementer|roskakori|poistetut|kosz|"
        "elementy usunięte|koš|odstraněná pošta|lomtár|törölt elemek|корзина|удаленные|кошик|видалені|"
        "çöp kutusu|silinmiş öğeler|ごみ箱|削除済みアイテム|已删除|已删除邮件|垃圾桶|휴지통"
    ),
    "\\archive": (
        "archive|archives|archiv|archivo|archivos|archivio|archief|arkiv|arkisto|archiwum|архив|存档|アーカイブ"
    ),
}
"""What the folders are called where the server does not mark them: by webmail programs, in their languages."""

_USE_BY_NAME = {name: use for use, names in _WELL_KNOWN.items() for name in names.split("|")}


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder that can be opened."""

    name: str
    """For people, and the key in the database."""
    wire: bytes
    """As the server spells it."""
    delimiter: str
    attributes: frozenset[str]

    @property
    def is_inbox(self) -> bool:
        return self.name.upper() == "INBOX"


@dataclass(frozen=True, slots=True)
class Resolved:
    """Which folders are followed, each once, in the configuration's order; what it names and is not there."""

    folders: tuple[Folder, ...]
    missing: tuple[str, ...]


def readable(listed: Iterable[Listed]) -> tuple[Folder, ...]:
    """The folders that hold mail, INBOX first, then by name. INBOX is spelled so (RFC 9051, 5.1: any case).

    Each has a name of its own, also where two are spelled so that they read the same: none is left out.
    """
    folders: dict[str, Folder] = {}
    entries = {entry.name: entry for entry in listed}
    for wire, entry in sorted(entries.items(), key=lambda each: (not each[0].isascii(), each[0])):
        if entry.attributes & _UNREADABLE or _UNSENDABLE.intersection(wire):
            continue
        if wire.upper() == b"INBOX":
            folders.setdefault("INBOX", Folder("INBOX", wire, entry.delimiter, entry.attributes))
            continue
        name = utf7.decode(wire)
        if name in folders or name.upper() == "INBOX":
            name = wire.decode("ascii", "backslashreplace")
        while name in folders:
            name += "'"
        folders[name] = Folder(name, wire, entry.delimiter, entry.attributes)
    return tuple(sorted(folders.values(), key=lambda folder: (not folder.is_inbox, folder.name)))


def resolve(wanted: Sequence[str], folders: Sequence[Folder]) -> Resolved:
    """Finds what the configuration names.

    A name is a name first, even with a star or a bracket in it; then "*" is everything but Drafts, Junk and Trash,
    `\\Sent` the folders of that use, and a glob knows `*` (anything), `%` (anything within one level) and `?`.
    """
    uses = _uses(folders)
    chosen: dict[str, Folder] = {}
    missing: list[str] = []
    for pattern in wanted:
        found = _matching(pattern, folders, uses)
        if not found:
            missing.append(pattern)
        chosen.update((folder.name, folder) for folder in found if folder.name not in chosen)
    return Resolved(tuple(chosen.values()), tuple(missing))


def _matching(pattern: str, folders: Sequence[Folder], uses: dict[str, frozenset[str]]) -> list[Folder]:
    exact = [
        folder for folder in folders if folder.name == pattern or (folder.is_inbox and pattern.upper() == "INBOX")
    ]
    if exact:
        return exact
    pattern = normalize("NFC", pattern)  # macOS spells "ü" in two characters, whoever types it in one
    if alike := [folder for folder in folders if normalize("NFC", folder.name) == pattern]:
        return alike
    if pattern == "*":
        return [folder for folder in folders if not any(use in uses[folder.name] for use in _LEFT_OUT)]
    if pattern.startswith("\\"):
        return [folder for folder in folders if pattern.lower() in uses[folder.name]]
    if any(wild in pattern for wild in "*%?"):
        return [folder for folder in folders if _fits(pattern, folder)]
    return []


def _uses(folders: Sequence[Folder]) -> dict[str, frozenset[str]]:
    """The special uses of each folder: the server's marks; by well-known names those that it marks nowhere."""
    marked = {attribute for folder in folders for attribute in folder.attributes if attribute in _WELL_KNOWN}
    uses = {}
    for folder in folders:
        use = folder.attributes
        last = folder.name.rsplit(folder.delimiter, 1)[-1] if folder.delimiter else folder.name
        guessed = _USE_BY_NAME.get(normalize("NFC", last).casefold())
        if guessed and guessed not in marked and _near_the_top(folder):
            use = use | {guessed}
        if folder.is_inbox:
            use = use | {"\\inbox"}
        uses[folder.name] = use
    return uses


def _near_the_top(folder: Folder) -> bool:
    """At the top or one below (INBOX.Sent, [Gmail]/Sent): `Customers/Smith/Sent` is a folder of the user's own."""
    return not folder.delimiter or folder.name.count(folder.delimiter) <= 1


def _fits(pattern: str, folder: Folder) -> bool:
    return _glob(pattern, folder.delimiter).fullmatch(normalize("NFC", folder.name)) is not None


def _glob(pattern: str, delimiter: str) -> re.Pattern[str]:
    level = f"[^{re.escape(delimiter)}]*" if delimiter else ".*"
    parts = {"*": ".*", "%": level, "?": "."}
    return re.compile("".join(parts.get(char) or re.escape(char) for char in pattern), re.DOTALL)
