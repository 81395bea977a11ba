"""What the door knows of a mailbox's settings."""

from maillinkd.imap.account import Account, Deadlines


def test_the_password_is_not_shown() -> None:
    assert "canary" not in repr(Account("anna", "h", 993, "implicit", "anna", "canary"))


def test_a_fetch_has_time_for_what_it_brings() -> None:
    """4 MB over a line of 4 kB/s; and never less than any command has."""
    deadlines = Deadlines()

    assert deadlines.fetch(0) == deadlines.command
    assert deadlines.fetch(4_000_000) == deadlines.command + 1_000


def test_idle_is_renewed_before_servers_and_nat_boxes_forget() -> None:
    """RFC 2177 says 29 minutes at most; a dead connection is noticed within six."""
    deadlines = Deadlines()

    assert deadlines.idle_longest < 29 * 60
    assert deadlines.idle_renew + deadlines.idle_done <= 6 * 60
