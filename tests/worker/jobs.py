"""What the worker is given to do in its tests. It imports this module by name."""

import os
import time
from typing import NoReturn

from maillinkd.worker import child


def double(number: int) -> int:
    return 2 * number


def say(text: str) -> str:
    print(text)
    return text


def complain() -> NoReturn:
    raise ValueError("no such thing")


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def die() -> NoReturn:
    os._exit(7)


def hoard() -> int:
    return len(b"x" * (1 << 40))


def compute_with(seconds: int) -> NoReturn:
    """Computes for ever, with so many seconds to do it in."""
    child._allow(seconds)
    while True:
        pass


def environment() -> dict[str, str]:
    return dict(os.environ)


def process() -> int:
    return os.getpid()


def large(size: int) -> bytes:
    return b"x" * size
