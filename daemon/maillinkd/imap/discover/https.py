"""Fetches a small document over HTTPS: certificate checked, bounded in time and size, never over http."""

import asyncio
import http.client
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from email.message import Message
from typing import IO

_CHUNK = 16_384


class NoDocument(Exception):
    """There is no document to be had; says why. Safe to show."""


async def fetch(url: str, *, largest: int, deadline: float = 5.0, context: ssl.SSLContext | None = None) -> bytes:
    """The document at an https:// address, also after redirections to other https:// addresses.

    `largest`: bytes above which it is refused; `deadline`: seconds for all of it. Raises NoDocument.
    """
    try:
        async with asyncio.timeout(deadline):
            return await _in_thread(lambda: _fetch(url, largest, deadline, context))
    except TimeoutError:
        raise NoDocument(f"no answer within {deadline:g} s") from None


async def _in_thread(work: Callable[[], bytes]) -> bytes:
    """As asyncio.to_thread, but nobody waits for the thread at the end: a server may hold it for long."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[bytes] = loop.create_future()

    def settle(result: bytes | Exception) -> None:
        if future.cancelled():
            return
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)

    def run() -> None:
        result: bytes | Exception
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  # raised where it is waited for
            result = error
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(settle, result)

    threading.Thread(target=run, name="https", daemon=True).start()
    return await future


class _OverHttpsOnly(urllib.request.HTTPRedirectHandler):
    max_redirections = 3

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.lower().startswith("https://"):
            raise NoDocument("it leads to an address without TLS, which is not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]  # a stub's


def _fetch(url: str, largest: int, deadline: float, context: ssl.SSLContext | None) -> bytes:
    if not url.startswith("https://"):
        raise NoDocument("only https is used")
    end = time.monotonic() + deadline
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context or ssl.create_default_context()), _OverHttpsOnly()
    )
    try:
        request = urllib.request.Request(url, headers={"User-Agent": "maillinkd"})  # noqa: S310  # https, see above
        with opener.open(request, timeout=deadline) as answer:
            return _body(answer, largest, end)
    except NoDocument:
        raise
    except urllib.error.HTTPError as error:
        with error:
            raise NoDocument(f"answered {error.code}") from None
    except urllib.error.URLError as error:
        raise NoDocument(_reason(error.reason)) from None
    except (OSError, http.client.HTTPException, ValueError) as error:  # ValueError: an address that is none
        raise NoDocument(_reason(error)) from None


def _body(answer: http.client.HTTPResponse, largest: int, end: float) -> bytes:
    body = b""
    while chunk := answer.read1(_CHUNK):
        body += chunk
        if len(body) > largest:
            raise NoDocument(f"is larger than {largest} bytes")
        if time.monotonic() > end:  # one that trickles has no timeout of its own
            raise NoDocument("comes too slowly")
    return body


def _reason(error: object) -> str:
    match error:
        case ssl.SSLCertVerificationError():
            return f"its certificate is not valid: {error.verify_message}"
        case TimeoutError():
            return "no answer in time"
        case OSError():
            return error.strerror or type(error).__name__
    return type(error).__name__
