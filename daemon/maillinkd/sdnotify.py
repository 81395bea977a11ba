"""What systemd is told, and what it hands over: sd_notify(3), sd_listen_fds(3), by hand as the protocols are small.

Without systemd (no $NOTIFY_SOCKET, no $LISTEN_FDS) everything here does nothing.
"""

import os
import socket
import time
from collections.abc import Mapping

FIRST_FD = 3
"""SD_LISTEN_FDS_START"""


def notify(*assignments: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Sends `KEY=value` assignments in one datagram; True if systemd has got it. A missing listener is no error."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        try:
            # "@" stands for the NUL of an abstract name (unix(7)).
            sender.connect("\0" + address[1:] if address.startswith("@") else address)
            sender.sendall("\n".join(one_line.replace("\n", " ") for one_line in assignments).encode())
        except OSError:
            return False
    return True


def ready(status: str = "", environ: Mapping[str, str] = os.environ) -> bool:
    """Start-up, or a reload, is done."""
    return notify("READY=1", f"STATUS={status}", environ=environ)


def status(text: str, environ: Mapping[str, str] = os.environ) -> bool:
    """What `systemctl status` shows; one line."""
    return notify(f"STATUS={text}", environ=environ)


def reloading(environ: Mapping[str, str] = os.environ) -> bool:
    """A reload has begun; `ready` ends it. The time lets Type=notify-reload tell it from an earlier one."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1_000}", environ=environ)


def stopping(environ: Mapping[str, str] = os.environ) -> bool:
    """Stopping has begun."""
    return notify("STOPPING=1", environ=environ)


def watchdog(environ: Mapping[str, str] = os.environ) -> bool:
    """The event loop is alive."""
    return notify("WATCHDOG=1", environ=environ)


def watchdog_interval(environ: Mapping[str, str] = os.environ) -> float | None:
    """Seconds between calls of `watchdog`: half of what systemd allows (sd_watchdog_enabled(3)); None: none asked."""
    allowed = environ.get("WATCHDOG_USEC", "")
    if not allowed.isascii() or not allowed.isdigit() or int(allowed) == 0:
        return None
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(allowed) / 2_000_000


def listen_fds(
    name: str | None = None, environ: Mapping[str, str] = os.environ, first_fd: int = FIRST_FD
) -> list[socket.socket]:
    """The sockets that systemd opened for us, of this FileDescriptorName= alone if one is given.

    Each is taken over (closed with its object, not inherited by children), so ask once. Raises OSError if what was
    handed over is no socket.
    """
    number = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not number.isascii() or not number.isdigit():
        return []
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    wanted = [
        first_fd + place
        for place in range(int(number))
        if name is None or (place < len(names) and names[place] == name)
    ]
    return [_taken_over(fd) for fd in wanted]


def _taken_over(fd: int) -> socket.socket:
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)
