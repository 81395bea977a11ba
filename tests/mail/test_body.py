"""What is sought in the text of a mail."""

import pickle
from datetime import UTC, datetime

from maillinkd.mail.body import Body, read_body
from maillinkd.mail.forward import forwarded_addresses
from maillinkd.mail.header import split
from maillinkd.mail.message import Message, parse
from maillinkd.mail.rewritten import content_ids

RAW = (
    b"From: anna@ourco.example\r\nTo: ourco@bcc.ourco.example\r\nDate: Sun, 1 Mar 2026 12:00:00 +0000\r\n\r\n"
    b"---------- Forwarded message ---------\r\nFrom: Carla <carla@client.example>\r\n"
    b"Date: Sun, 1 Mar 2026 11:00:00 +0000\r\nSubject: New roof\r\nTo: Anna <anna@ourco.example>\r\n\r\n"
    b"What would a new roof cost?\r\n"
)


def message() -> Message:
    return parse(split(RAW)[0], received_at=datetime(2026, 3, 1, tzinfo=UTC), size=len(RAW))


def test_only_what_is_asked_for_is_sought() -> None:
    forwarded, ids = forwarded_addresses(RAW, "attached+inline"), content_ids(message(), RAW)

    assert forwarded
    assert ids
    assert read_body(RAW, "off", None) == Body()
    assert read_body(RAW, "attached+inline", None) == Body(forwarded, ())
    assert read_body(RAW, "off", message()) == Body((), ids)
    assert read_body(RAW, "attached+inline", message()) == Body(forwarded, ids)


def test_it_goes_to_the_worker_and_back() -> None:
    """What goes through a pipe is pickled."""
    job = (read_body, (RAW, "attached+inline", message()))
    function, arguments = pickle.loads(pickle.dumps(job))

    assert pickle.loads(pickle.dumps(function(*arguments))) == read_body(RAW, "attached+inline", message())
