"""The worker itself: reads pure functions with their arguments from its standard input, writes what they return.

A frame is its length, four octets with the highest first, and a pickled value. The process ends with its input, and
so with whoever started it. What it may use is bounded (reliability.md, Parsing).
"""

import fcntl
import os
import pickle
import resource
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO

MEMORY = 512 << 20
"""Bytes of address space."""
PIPE = 1 << 20
"""Bytes that a pipe holds, so that a batch goes over in one turn."""
SECONDS = 5
"""Processor time that a job may take before the system stops the process."""


def main() -> None:
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a job should print goes elsewhere
    for pipe in (source, sink):
        with suppress(OSError):  # refused where the user has many: then it takes more turns
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE)
    for number in (signal.SIGINT, signal.SIGTERM):  # Ctrl-C, and systemd, mean whoever started us
        signal.signal(number, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    while (job := receive(source)) is not None:
        _allow(SECONDS)
        answer = pickle.dumps(_do(*job), pickle.HIGHEST_PROTOCOL)
        sink.write(len(answer).to_bytes(4, "big") + answer)
        sink.flush()


def receive(source: BinaryIO) -> Any:
    """The next frame's value, None at the end."""
    head = source.read(4)
    if len(head) < 4:
        return None
    return pickle.loads(source.read(int.from_bytes(head, "big")))  # noqa: S301  # from whoever started us


def _allow(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds + 1, most))


def _do(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether it went well, and what came of it or what was wrong."""
    try:
        return True, function(*arguments)
    except Exception as error:  # noqa: BLE001  # whoever asked is told
        return False, f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
