"""The frames that the worker reads."""

import io
import pickle

import pytest

from maillinkd.worker.child import receive


def frame(value: object) -> bytes:
    body = pickle.dumps(value)
    return len(body).to_bytes(4, "big") + body


def test_frames_are_read_one_after_the_other() -> None:
    source = io.BytesIO(frame((len, (b"abc",))) + frame((len, (b"",))))
    assert [receive(source), receive(source), receive(source)] == [(len, (b"abc",)), (len, (b"",)), None]


@pytest.mark.parametrize("rest", [b"", b"\x00", b"\x00\x00\x00"])
def test_an_input_that_ends_is_the_end(rest: bytes) -> None:
    assert receive(io.BytesIO(rest)) is None
