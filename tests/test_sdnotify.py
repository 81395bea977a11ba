"""systemd's protocols, on real sockets: sd_notify(3), sd_watchdog_enabled(3), sd_listen_fds(3)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from maillinkd import sdnotify


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, dict[str, str]]]:
    """A listener in systemd's place, and the environment that names it."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@maillinkd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(name.replace("@", "\0", 1))
        listener.settimeout(10)
        yield listener, {"NOTIFY_SOCKET": name}


def heard(systemd: tuple[socket.socket, dict[str, str]]) -> list[str]:
    return systemd[0].recv(4096).decode().split("\n")


def test_systemd_hears_that_we_are_ready(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    assert sdnotify.ready("3 mailboxes", systemd[1])

    assert heard(systemd) == ["READY=1", "STATUS=3 mailboxes"]


def test_systemd_hears_that_we_stop(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    assert sdnotify.stopping(systemd[1])

    assert heard(systemd) == ["STOPPING=1"]


def test_systemd_hears_that_we_are_alive(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    assert sdnotify.watchdog(systemd[1])

    assert heard(systemd) == ["WATCHDOG=1"]


def test_systemd_hears_when_a_reload_began(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    before = time.monotonic_ns() // 1_000
    assert sdnotify.reloading(systemd[1])

    first, second = heard(systemd)
    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1_000


def test_a_status_is_one_line_and_forges_nothing(systemd: tuple[socket.socket, dict[str, str]]) -> None:
    assert sdnotify.status("folder A\nSTOPPING=1", systemd[1])

    assert heard(systemd) == ["STATUS=folder A STOPPING=1"]


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "vsock:2:1234", "@nobody-listens-here"])
def test_without_a_listener_nothing_happens(name: str) -> None:
    assert not sdnotify.ready(environ={"NOTIFY_SOCKET": name})


def test_without_systemd_nothing_happens() -> None:
    assert not sdnotify.ready(environ={})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "²"}, None),
    ],
)
def test_the_watchdog_is_fed_twice_as_often_as_it_asks(environ: dict[str, str], expected: float | None) -> None:
    assert sdnotify.watchdog_interval(environ) == expected


HEIR = """
import os, sys
from maillinkd import sdnotify
os.environ["LISTEN_PID"] = str(os.getpid())
for listener in sdnotify.listen_fds(*sys.argv[1:]):
    print(listener.fileno(), listener.family.name, listener.getsockname()[1], listener.get_inheritable())
"""


def handed_over(*arguments: str, names: str) -> list[str]:
    """What a process says that finds two listening sockets at 3 and 4, as systemd starts it."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = {str(one.getsockname()[1]): "one", str(other.getsockname()[1]): "other"}
        # The shell moves them to where systemd puts them.
        command = f'exec "$0" "$@" 3<&{one.fileno()} 4<&{other.fileno()}'
        done = subprocess.run(
            ["bash", "-c", command, sys.executable, "-c", HEIR, *arguments],
            pass_fds=(one.fileno(), other.fileno()),
            env=os.environ | {"LISTEN_FDS": "2", "LISTEN_FDNAMES": names, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    lines = [line.split() for line in done.stdout.splitlines()]
    return [f"{ports[port]} at {fd}, {family}, inheritable {inheritable}" for fd, family, port, inheritable in lines]


def test_sockets_of_systemd_are_taken_over() -> None:
    assert handed_over(names="smart_bcc:web") == [
        "one at 3, AF_INET, inheritable False",
        "other at 4, AF_INET, inheritable False",
    ]


def test_sockets_of_systemd_are_told_apart_by_name() -> None:
    assert handed_over("web", names="smart_bcc:web") == ["other at 4, AF_INET, inheritable False"]
    assert handed_over("web", names="") == []


def test_a_taken_socket_accepts() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        fd = os.dup(server.fileno())
        environ = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
        (listener,) = sdnotify.listen_fds(environ=environ, first_fd=fd)
        with listener, socket.create_connection(server.getsockname(), timeout=10) as client:
            listener.settimeout(10)
            accepted, peer = listener.accept()
            accepted.close()

            assert peer == client.getsockname()


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_FDS": "2"},
        {"LISTEN_FDS": "2", "LISTEN_PID": "1"},
        {"LISTEN_FDS": "0", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_PID": str(os.getpid())},
    ],
)
def test_what_is_not_meant_for_us_is_left_alone(environ: dict[str, str]) -> None:
    assert sdnotify.listen_fds(environ=environ) == []
