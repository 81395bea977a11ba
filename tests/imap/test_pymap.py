"""The whole door against pymap, the server that the demo embeds."""

import asyncio
import imaplib
import time

from imap.ledger import ListLedger
from maillinkd import demo
from maillinkd.imap.account import Account
from maillinkd.imap.poller import follow
from maillinkd.imap.state import MailboxState, State

NEW = b"From: Carla Client <carla@client.example>\r\nTo: anna@ourco.example\r\nSubject: Hello\r\n\r\nHello\r\n"


def account(address: tuple[str, int]) -> Account:
    host, port = address
    return Account("demo", host, port, "none", demo.USER, demo.PASSWORD, folders=("INBOX", "\\Sent"))


async def test_a_pass_and_mail_that_comes_by_idle() -> None:
    """All of the sample mailbox, then a message that is appended; its flags stay as they were."""

    def append() -> float:
        with imaplib.IMAP4(*address, timeout=10) as client:
            client.login(demo.USER, demo.PASSWORD)
            client.append("INBOX", "", "", NEW)
            return time.perf_counter()

    def unseen() -> list[bytes]:
        with imaplib.IMAP4(*address, timeout=10) as client:
            client.login(demo.USER, demo.PASSWORD)
            client.select("INBOX", readonly=True)
            return client.search(None, "UNSEEN")[1][0].split()

    async with demo.serve(port=0) as address:
        before = await asyncio.to_thread(unseen)
        ledger = ListLedger()
        summary = await follow(account(address), ledger, once=True)

        assert summary.missing_folders == ()
        assert summary.filed == sum(len(demo.read_mbox(path)) for path in demo.mail_files().values())
        states: list[MailboxState] = []
        task = asyncio.create_task(follow(account(address), ledger, report=states.append))
        async with asyncio.timeout(10):
            while not states or states[-1].state is not State.WATCHING:
                await asyncio.sleep(0.01)
        count = len(ledger.uids("INBOX"))
        appended = await asyncio.to_thread(append)
        await ledger.until(count + 1)

        assert ledger.subjects("INBOX")[-1] == b"Hello"
        assert time.perf_counter() - appended < 1.0
        assert len(await asyncio.to_thread(unseen)) == len(before) + 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
