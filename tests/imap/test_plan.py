"""What a pass would fetch."""

from imap.following import account, once
from imap.ledger import ListLedger
from maillinkd.imap.plan import plan
from system.imap_peer import FakeFolder, FakeServer, mail

MAILS = 7


async def test_a_plan_files_nothing(server: FakeServer, ledger: ListLedger) -> None:
    await once(server, ledger)
    server.inbox.append(mail(8))
    server.folders["Sent"] = FakeFolder()
    server.folders["Sent"].append(mail(1, 1_000))
    planned = await plan(account(server, folders=("INBOX", "Sent", "Nope")), ledger)

    assert [("INBOX", 1, 0, len(mail(8))), ("Sent", 0, 1, len(mail(1, 1_000)))] == [
        (each.folder, each.new, each.first, each.size) for each in planned.folders
    ]
    assert planned.missing_folders == ("Nope",)
    assert len(ledger.batches) == 1
