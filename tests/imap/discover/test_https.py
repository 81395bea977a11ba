"""Small documents over HTTPS, and everything else refused."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imap.discover.internet import https_server
from maillinkd.imap.discover.https import NoDocument, fetch


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ssl.SSLContext]]:
    pages = {
        "/good": (200, b"good"),
        "/large": (200, b"x" * 2_000),
        "/moved": (302, b"/good"),
        "/to-http": (302, b"http://127.0.0.1:9/good"),
        "/to-file": (302, b"file:///etc/hostname"),
        "/round": (302, b"/round"),
    }
    with https_server(pages, tmp_path_factory.mktemp("web")) as (port, context):
        yield f"https://localhost:{port}", context


async def test_a_document(web: tuple[str, ssl.SSLContext]) -> None:
    assert await fetch(f"{web[0]}/good", largest=100, context=web[1]) == b"good"


async def test_a_redirection_within_https_is_followed(web: tuple[str, ssl.SSLContext]) -> None:
    assert await fetch(f"{web[0]}/moved", largest=100, context=web[1]) == b"good"


REFUSED = {
    "not there": ("/none", "answered 404"),
    "too large": ("/large", "larger than 100 bytes"),
    "out of TLS": ("/to-http", "without TLS"),
    "to a file of ours": ("/to-file", "answered 302"),
    "round in circles": ("/round", "answered 302"),
}


@pytest.mark.parametrize(("path", "why"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_refused(web: tuple[str, ssl.SSLContext], path: str, why: str) -> None:
    with pytest.raises(NoDocument, match=why):
        await fetch(f"{web[0]}{path}", largest=100, context=web[1])


async def test_a_certificate_that_nobody_vouches_for(web: tuple[str, ssl.SSLContext]) -> None:
    with pytest.raises(NoDocument, match="certificate is not valid"):
        await fetch(f"{web[0]}/good", largest=100)


async def test_a_certificate_for_another_name(web: tuple[str, ssl.SSLContext]) -> None:
    elsewhere = web[0].replace("localhost", "127.0.0.2")

    with pytest.raises(NoDocument, match=r"certificate is not valid|refused"):
        await fetch(f"{elsewhere}/good", largest=100, context=web[1])


@pytest.mark.parametrize("url", ["http://localhost/x", "file:///etc/hostname", "ftp://localhost/x"])
async def test_https_alone(url: str) -> None:
    with pytest.raises(NoDocument, match="only https"):
        await fetch(url, largest=100)


async def test_a_name_that_does_not_exist() -> None:
    with pytest.raises(NoDocument):
        await fetch("https://nobody.invalid/x", largest=100)


async def test_an_address_that_is_none() -> None:
    with pytest.raises(NoDocument):
        await fetch("https://a b/x", largest=100)


async def test_a_server_that_trickles_is_left_in_time(tmp_path: Path) -> None:
    """Each byte comes within the time for one; all of them would take for ever."""
    from system.dovecot import certificate

    cert, key = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    listener = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(1_000)
            secure.sendall(b"HTTP/1.0 200 OK\r\n\r\n")
            try:
                while not ended.wait(0.02):
                    secure.sendall(b"x")
            except OSError:
                pass

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    began = time.monotonic()
    with pytest.raises(NoDocument, match=r"within|too slowly"):
        await fetch(
            f"https://localhost:{listener.getsockname()[1]}/",
            largest=100_000,
            deadline=0.3,
            context=ssl.create_default_context(cafile=str(cert)),
        )
    took = time.monotonic() - began
    ended.set()
    thread.join(5)
    listener.close()

    assert took < 2
