"""What a mailbox's task says of itself."""

import pytest

from imap.following import Following
from imap.ledger import ListLedger
from maillinkd.imap import reader
from maillinkd.imap.state import State
from system.imap_peer import FakeServer

MAILS = 7


async def test_states_tell_the_story(server: FakeServer, ledger: ListLedger) -> None:
    async with Following(server, ledger, folders=("INBOX", "Nope")) as following:
        watching = await following.until(lambda state: state.state is State.WATCHING)

    story = list(dict.fromkeys(state.state for state in following.states))
    assert story == [State.CONNECTING, State.CATCHING_UP, State.WATCHING]
    assert (
        watching.folder,
        watching.missing_folders,
        watching.filed,
        watching.pending,
        watching.last_error,
        watching.next_try,
    ) == ("INBOX", ("Nope",), 7, 0, "", None)
    assert watching.last_success is not None
    assert 7 in {state.pending for state in following.states}


async def test_how_much_of_a_first_sync_is_left(
    server: FakeServer, ledger: ListLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "CHUNK", 3)
    async with Following(server, ledger) as following:
        await following.until(lambda state: state.state is State.WATCHING)

    assert list(dict.fromkeys(state.first_sync for state in following.states)) == [0, 4, 1]
    assert following.states[-1].first_sync == 0
