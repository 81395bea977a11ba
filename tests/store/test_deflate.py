"""What is compressed can be read by anybody."""

import importlib
import sys
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.store import deflate

WORDS = b'"people":["from ","to "]'


@given(st.binary(max_size=5_000) | st.text(alphabet="ab", max_size=5_000).map(str.encode))
def test_zlib_reads_it(said: bytes) -> None:
    assert zlib.decompress(deflate.compress(said, deflate.LEVEL)) == said
    compress = deflate.compressobj(deflate.LEVEL, deflate.DEFLATED, 12, 4, deflate.DEFAULT_STRATEGY, WORDS)
    written = compress.compress(said) + compress.flush()
    assert zlib.decompressobj(zdict=WORDS).decompress(written) == said


def test_a_processor_without_a_wheel_has_the_standard_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "isal.isal_zlib", None)
    try:
        importlib.reload(deflate)
        assert deflate.compress is zlib.compress
        compress = deflate.compressobj(deflate.LEVEL, deflate.DEFLATED, 12, 4, deflate.DEFAULT_STRATEGY, WORDS)
        assert compress.compress(b"") + compress.flush()
    finally:
        monkeypatch.undo()
        importlib.reload(deflate)
    assert deflate.compress is not zlib.compress
