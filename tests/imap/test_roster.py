"""The folders that are followed."""

import asyncio

import pytest
from structlog.testing import capture_logs

from imap.following import Following, idling, once
from imap.ledger import ListLedger
from maillinkd.imap import watch
from maillinkd.imap.errors import ImapError
from maillinkd.imap.state import State
from system.imap_peer import FakeConnection, FakeFolder, FakeServer, mail

MAILS = 7


async def test_folders_that_are_not_there_are_reported(server: FakeServer, ledger: ListLedger) -> None:
    server.folders["Locked"] = FakeFolder()
    server.on("EXAMINE", None)

    async def locked(peer: FakeConnection, tag: str, line: str) -> bool:
        if "Locked" in line:
            await peer.say(f"{tag} NO [NOPERM] not yours")
        return "Locked" in line

    server.on("EXAMINE", locked)
    summary = await once(server, ledger, folders=("Nope", "Locked", "INBOX"))

    assert summary.missing_folders == ("Nope", "Locked")
    assert summary.filed == 7


async def test_no_folder_at_all(server: FakeServer, ledger: ListLedger) -> None:
    with pytest.raises(ImapError, match="none of the configured folders"):
        await once(server, ledger, folders=("Nope",))


async def test_a_folder_that_is_made_later_is_found(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "_RELIST", 0.0)
    async with Following(server, ledger, folders=("*",), poll_interval=0.02) as following:
        await following.until(lambda state: state.state is State.WATCHING)
        server.folders["New"] = FakeFolder()
        server.folders["New"].append(mail(1))
        await ledger.until(1, "New")


async def test_a_uidvalidity_that_changes_again_and_again_raises_an_alarm_and_stops_nothing(
    server: FakeServer, ledger: ListLedger
) -> None:
    with capture_logs() as lines:
        async with Following(server, ledger):
            for validity in range(2, 52):
                await idling(server)
                server.inbox.uidvalidity = validity
                for peer in server.connections:
                    peer.idling = False
                await server.drop_all()
                async with asyncio.timeout(10):
                    while ledger.cursors["INBOX"].uidvalidity != validity or len(ledger.uids("INBOX")) < 7:
                        await asyncio.sleep(0.001)

    said = [line["log_level"] for line in lines if line["event"] == "imap uidvalidity changed"]
    assert said == ["warning"] * 5 + ["error"] * 45
    assert len(ledger.subjects("INBOX")) == 51 * 7
