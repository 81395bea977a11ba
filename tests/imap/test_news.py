"""What a server says unasked."""

import pytest

from maillinkd.imap import news
from maillinkd.imap.news import News
from maillinkd.imap.response import Exists, Expunged, Listed, MailboxStatus, Status, TooLarge, Vanished


def opened(exists: int) -> News:
    """Of a folder that has just been opened."""
    fresh = News()
    fresh.opening()
    fresh.in_open_folder(Exists(exists))
    fresh.opened()
    return fresh


def said(code: str, text: str = "") -> Status:
    return Status("", "OK", code, "", text)


HAPPENINGS = {
    "mail came": ([Exists(4)], 4, True, False, []),
    "as many as before": ([Exists(3)], 3, False, False, []),
    "one went": ([Expunged(2)], 2, True, True, []),
    "one went and one came": ([Expunged(2), Exists(3)], 3, True, True, []),
    "some went, by name": ([Vanished(False, ((1, 1), (5, 6)))], 0, True, False, [(1, 1), (5, 6)]),
    "some had gone before": ([Vanished(True, ((1, 9),))], 3, False, False, [(1, 9)]),
    "more went than were there": ([Expunged(1)] * 5, 0, True, True, []),
}


@pytest.mark.parametrize(
    ("responses", "exists", "changed", "expunged", "vanished"), HAPPENINGS.values(), ids=HAPPENINGS.keys()
)
def test_what_happens_in_the_open_folder(
    responses: list[Exists | Expunged | Vanished],
    exists: int,
    changed: bool,
    expunged: bool,
    vanished: list[tuple[int, int]],
) -> None:
    told = opened(3)
    told.stirred.clear()
    for response in responses:
        told.in_open_folder(response)

    assert (told.exists, told.changed, bool(told)) == (exists, changed, changed)
    assert (told.take_expunged(), told.take_vanished()) == (expunged, vanished)
    assert (told.take_expunged(), told.take_vanished()) == (False, [])
    assert told.stirred.is_set() or not changed
    told.notice()
    assert not told


def test_another_folder_makes_all_of_it_old() -> None:
    """What vanished is named in the answer to EXAMINE (QRESYNC): it is kept, and nothing else is."""
    told = opened(3)
    told.in_open_folder(Expunged(1))
    told.in_open_folder(Vanished(False, ((7, 7),)))
    told.opening()
    told.in_open_folder(Vanished(True, ((2, 2),)))
    told.in_open_folder(Exists(9))
    told.opened()

    assert (told.exists, told.changed, told.take_expunged()) == (9, False, False)
    assert told.take_vanished() == [(2, 2)]


def test_what_happens_in_other_folders_is_given_once() -> None:
    told = opened(0)
    told.of_folder(MailboxStatus(b"Sent", {"MESSAGES": 5}))
    told.of_folder(MailboxStatus(b"Sent", {"MESSAGES": 6}))
    told.of_folder(Listed(frozenset(), "/", b"New"))
    told.in_words(said("NOTIFICATIONOVERFLOW"))

    assert told
    assert (told.take_announced(), told.take_folders_changed(), told.take_overflowed()) == ({b"Sent"}, True, True)
    assert (told.take_announced(), told.take_folders_changed(), told.take_overflowed()) == (set(), False, False)
    assert not told


def test_alerts_are_given_once_on_one_line_the_last_ones() -> None:
    told = News()
    told.in_words(said("ALERT", "The disk\x07 is full"))
    assert told.take_alerts() == ["The disk  is full"]
    assert told.take_alerts() == []

    for number in range(50):
        told.in_words(said("ALERT", str(number)))
    assert told.take_alerts() == [str(number) for number in range(40, 50)]
    assert not told


def test_a_list_of_what_vanished_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(news, "_RANGES_LIMIT", 3)
    told = opened(9)
    told.in_open_folder(Vanished(False, ((1, 1), (2, 2), (3, 3))))
    with pytest.raises(TooLarge):
        told.in_open_folder(Vanished(False, ((4, 4),)))
