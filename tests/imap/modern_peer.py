"""A `FakeServer` that knows CONDSTORE, QRESYNC, ESEARCH, LIST-STATUS and NOTIFY (RFC 7162, 4731, 5819, 5465)."""

import re
from dataclasses import dataclass, field

from maillinkd.imap.sync import sequence_set
from system.imap_peer import FakeConnection, FakeFolder, FakeServer

EXTENSIONS = ("ENABLE", "CONDSTORE", "QRESYNC", "ESEARCH", "LIST-EXTENDED", "LIST-STATUS", "NOTIFY")


@dataclass
class Modern:
    """Gives a server the extensions, those alone that are named; keeps what a client was told and what it asked."""

    server: FakeServer
    extensions: tuple[str, ...] = EXTENSIONS
    modseqs: dict[str, int] = field(default_factory=dict)
    expunged: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """By folder, (modification sequence, UID)."""
    notified: list[FakeConnection] = field(default_factory=list)
    """Connections that asked for NOTIFY and still have it."""

    def __post_init__(self) -> None:
        self.server.capabilities += self.extensions
        for command, reply in (
            ("EXAMINE", self._examine),
            ("STATUS", self._status),
            ("LIST", self._list),
            ("UID SEARCH", self._search),
        ):
            self.server.on(command, reply)
        self.server.on("ENABLE", "* ENABLED QRESYNC\r\n{tag} OK done")
        self.server.on("NOTIFY", self._notify)

    def modseq(self, name: str) -> int:
        return self.modseqs.setdefault(name, 1)

    def touch(self, name: str = "INBOX") -> None:
        """Something changed in a folder: flags, or what the caller did."""
        self.modseqs[name] = self.modseq(name) + 1

    def expunge(self, uid: int, name: str = "INBOX") -> None:
        self.touch(name)
        del self.server.folders[name].messages[uid]
        self.expunged.setdefault(name, []).append((self.modseq(name), uid))

    async def announce(self, name: str) -> None:
        """Tells those that asked for it how a folder stands that they have not open."""
        folder = self.server.folders[name]
        for peer in self.notified:
            if peer.idling and peer.folder is not folder:
                await peer.say(f'* STATUS "{name}" ({self._numbers(name, folder)})')

    def _numbers(self, name: str, folder: FakeFolder) -> str:
        modseq = f" HIGHESTMODSEQ {self.modseq(name)}" if "CONDSTORE" in self.extensions else ""
        return f"MESSAGES {len(folder.uids)} UIDNEXT {folder.uidnext} UIDVALIDITY {folder.uidvalidity}{modseq}"

    async def _status(self, peer: FakeConnection, tag: str, line: str) -> bool:
        name = line.split('"')[1]
        if name not in self.server.folders:
            return False
        await peer.say(f'* STATUS "{name}" ({self._numbers(name, self.server.folders[name])})', f"{tag} OK done")
        return True

    async def _list(self, peer: FakeConnection, tag: str, line: str) -> bool:
        if "STATUS" not in line:
            return False
        for name in re.findall(r'"([^"]*)"', line):
            if name in self.server.folders:
                numbers = self._numbers(name, self.server.folders[name])
                await peer.say(f'* LIST () "/" "{name}"', f'* STATUS "{name}" ({numbers})')
        await peer.say(f"{tag} OK done")
        return True

    async def _examine(self, peer: FakeConnection, tag: str, line: str) -> bool:
        name = line.split('"')[1]
        folder = self.server.folders.get(name)
        if folder is None:
            return False
        peer.folder, peer.told = folder, len(folder.uids)
        await peer.say(
            f"* {peer.told} EXISTS",
            f"* OK [UIDVALIDITY {folder.uidvalidity}] valid",
            f"* OK [UIDNEXT {folder.uidnext}] next",
        )
        if "(CONDSTORE)" in line or "QRESYNC" in line:
            await peer.say(f"* OK [HIGHESTMODSEQ {self.modseq(name)}] highest")
        else:  # as Dovecot says of a folder that nobody has opened with CONDSTORE yet
            await peer.say("* OK [NOMODSEQ] none")
        resync = re.search(r"QRESYNC \((\d+) (\d+)\)", line)
        if resync and int(resync[1]) == folder.uidvalidity:
            uids = sorted(uid for modseq, uid in self.expunged.get(name, []) if modseq > int(resync[2]))
            if uids:
                await peer.say(f"* VANISHED (EARLIER) {sequence_set(uids)}")
            await peer.say(f"* 1 FETCH (UID {folder.uids[0]} FLAGS () MODSEQ (3))" if folder.uids else "* FLAGS ()")
        await peer.say(f"{tag} OK [READ-ONLY] done")
        return True

    async def _search(self, peer: FakeConnection, tag: str, line: str) -> bool:
        if "RETURN" not in line or peer.folder is None:
            return False
        uids = sequence_set(peer.folder.uids)
        await peer.say(f'* ESEARCH (TAG "{tag}") UID' + (f" ALL {uids}" if uids else ""), f"{tag} OK done")
        return True

    async def _notify(self, peer: FakeConnection, tag: str, line: str) -> bool:
        self.notified.append(peer)
        await peer.say(f"{tag} OK done")
        return True
