"""The daemon's SMTP door while the world fails: what had 250 is there once, nothing else is, and it goes on by itself
(reliability.md, Faults)."""

import asyncio
import contextlib
import os
import shutil
import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from system.daemon import ANNA, CARLA, PATIENCE, UNIVERSAL, Daemon, Site, mail
from system.postgres import PostgresServer

RECOVERY = 30.0
"""Seconds within which it is to go on by itself."""


def sized(id_: str, octets: int) -> bytes:
    """A mail of about so many octets that does not pack well."""
    text = os.urandom(octets // 2).hex().encode()
    lines = b"\r\n".join(text[at : at + 70] for at in range(0, len(text), 70))
    return mail(id_, sender=ANNA, to=CARLA).rstrip() + b"\r\n" + lines + b"\r\n"


def answer(daemon: Daemon, raw: bytes) -> int:
    """The code of the last reply to a mail: 250, or what refused it."""
    try:
        daemon.deliver(raw)
    except smtplib.SMTPResponseException as refusal:
        return int(refusal.smtp_code)
    return 250


def taken_in_time(daemon: Daemon, raw: bytes) -> bool:
    end = monotonic() + RECOVERY
    while monotonic() < end:
        if answer(daemon, raw) == 250:
            return True
    return False


def stored(database: Path) -> list[str]:
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader:
        return [id_ for (id_,) in reader.execute("SELECT message_id FROM message ORDER BY id")]


# -- a full disk


def mounts_are_possible() -> bool:
    probe = ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return (
        shutil.which("unshare") is not None
        and subprocess.run(probe, capture_output=True, check=False).returncode == 0
    )


@contextlib.contextmanager
def on_a_small_disk(tmp_path: Path, megabytes: int) -> Iterator[tuple[Daemon, Path]]:
    """A daemon whose database lies on a disk of its own, and that disk as we can reach it."""
    disk = tmp_path / "disk"
    disk.mkdir()
    site = Site(tmp_path, f"sqlite:///{disk}/mail.db")
    site.sections["smart_bcc"]["max_message_size"] = 1_000_000
    site.write()
    mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "{disk}" && exec "$@"'
    program = [sys.executable, "-m", "maillinkd", "--config", str(site.config), "run", "--only", "smart_bcc"]
    with Daemon(["unshare", "--mount", "sh", "-c", mount, "sh", *program], {}) as daemon:
        yield daemon, Path(f"/proc/{daemon.pid}/root{disk}")


def stored_there(daemon: Daemon, database: Path) -> list[str]:
    """What `stored` says, asked where the daemon's disk is mounted."""
    query = f"sqlite3.connect('file:{database}?mode=ro', uri=True).execute('SELECT message_id FROM message')"
    program = [sys.executable, "-c", f"import sqlite3\nfor row in {query}: print(row[0])"]
    inside = ["nsenter", "--target", str(daemon.pid), "--mount"]
    return subprocess.run([*inside, *program], check=True, capture_output=True, text=True).stdout.split()


def fill(disk: Path, but_for: int) -> Path:
    """Leaves so many bytes free."""
    filler = disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while shutil.disk_usage(disk).free > but_for:
            file.write(bytes(32 * 1024))
    return filler


@pytest.mark.skipif(not mounts_are_possible(), reason="no mounts of its own: needs root and unshare")
def test_a_full_disk_is_temporary_and_passes(tmp_path: Path) -> None:
    """Refused at MAIL while there is little room; where the room is gone at the dot, nothing is half-stored."""
    accepted: list[str] = []
    answers: list[int] = []
    with on_a_small_disk(tmp_path, megabytes=32) as (daemon, disk):
        for episode in range(4):
            id_ = f"before{episode}@x"
            assert taken_in_time(daemon, sized(id_, 4_000))
            accepted.append(id_)

            with daemon.smtp() as client:
                codes = [client.mail(ANNA)[0], client.rcpt(UNIVERSAL)[0]]
                assert codes == [250, 250]
                filler = fill(disk, but_for=100_000 * episode)
                code, _ = client.data(sized(f"full{episode}@x", 700_000))
                answers.append(code)
                if code == 250:
                    accepted.append(f"full{episode}@x")
                code, text = client.mail(ANNA)
                assert (code, text[:5]) == (452, b"4.3.1")
            filler.unlink()

        assert taken_in_time(daemon, sized("end@x", 4_000))
        accepted.append("end@x")
        daemon.wait_for_decisions(*accepted)
        assert sorted(stored_there(daemon, tmp_path / "disk" / "mail.db")) == sorted(accepted)
        assert daemon.is_running
    assert 452 in answers
    assert set(answers) <= {250, 452}


# -- a database that does not answer


def test_a_database_that_another_program_keeps_is_temporary_and_passes(tmp_path: Path) -> None:
    site = Site(tmp_path)
    impatient = "from maillinkd.store import database\ndatabase.BUSY_TIMEOUT = 0.3"
    with site.daemon("smart_bcc", code=impatient) as daemon:
        with contextlib.closing(sqlite3.connect(tmp_path / "mail.db", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(smtplib.SMTPDataError) as refused:
                daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
            assert (refused.value.smtp_code, refused.value.smtp_error[:5]) == (451, b"4.3.0")
            other.execute("ROLLBACK")
        assert taken_in_time(daemon, mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")

    assert stored(tmp_path / "mail.db") == ["a@x"]


@pytest.mark.postgres
def test_a_postgresql_that_is_stopped_is_temporary_and_passes(
    tmp_path: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    site = Site(tmp_path, postgres_url)
    site.write()
    site.command("db", "upgrade")
    with site.daemon("smart_bcc") as daemon:
        daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")
        postgres_server.stop()
        try:
            assert answer(daemon, mail("b@x", sender=ANNA, to=CARLA)) == 451
        finally:
            postgres_server.start()
        assert taken_in_time(daemon, mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")
        assert daemon.stop()[0] == 0

    ids = postgres_server.execute("SELECT message_id FROM message ORDER BY id", postgres_url.rpartition("/")[2])
    assert ids.split() == ["a@x", "b@x"]


# -- a disk that fails


def can_be_traced() -> bool:
    if shutil.which("strace") is None:
        return False
    return subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_be_traced(), reason="strace is not installed, or may not trace")
def test_a_disk_that_fails_ends_the_process_and_nothing_that_it_took_is_lost(tmp_path: Path) -> None:
    """After EIO nobody knows what is on the disk (fsync(2)): 451, an exit code that is not 0, a new start."""
    site = Site(tmp_path)
    with site.daemon("smart_bcc") as daemon:
        daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")
        inject = ["-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
        tracer = subprocess.Popen(
            ["strace", "-f", "-o", "/dev/null", *inject, "-p", str(daemon.pid)], stderr=subprocess.PIPE, text=True
        )
        try:
            assert tracer.stderr is not None
            assert "attached" in tracer.stderr.readline()
            assert answer(daemon, mail("b@x", sender=ANNA, to=CARLA)) == 451
            assert daemon.ended() not in (0, -signal.SIGKILL)
        finally:
            tracer.terminate()
            tracer.wait(PATIENCE)
            tracer.stderr.close()  # type: ignore[union-attr]

    with site.daemon("smart_bcc") as daemon:
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")

    assert stored(tmp_path / "mail.db") == ["a@x", "b@x"]
    site.assert_whole()


# -- clients that leave, and a daemon that is told to stop


UNMARKED = f"From: {ANNA}\r\nTo: {CARLA}\r\nSubject: New roof\r\n\r\nNeither id nor date.\r\n".encode()


def test_a_client_that_leaves_after_the_dot_and_comes_again_is_not_doubled(tmp_path: Path) -> None:
    """Also with mail that has nothing by which to know it again; before it is filed, and long after."""
    site = Site(tmp_path)
    with site.daemon("smart_bcc") as daemon:
        for raw in (UNMARKED, mail("a@x", sender=ANNA, to=CARLA)):
            client = daemon.smtp()
            client.mail(ANNA)
            client.rcpt(UNIVERSAL)
            client.docmd("DATA")
            client.send(raw + b".\r\n")
            client.close()
            daemon.deliver(raw)
        daemon.wait_until(lambda: len(daemon.decisions()) >= 2, "two decisions")
        daemon.deliver(UNMARKED, mail("a@x", sender=ANNA, to=CARLA), mail("end@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("end@x")
        assert daemon.stop()[0] == 0

    assert site.query("SELECT count(*) FROM message WHERE made_id") == [(1,)]
    assert site.query("SELECT count(*) FROM message") == [(3,)]


def test_sigterm_under_load_keeps_what_had_250_and_nothing_else(tmp_path: Path) -> None:
    site = Site(tmp_path)
    accepted: set[str] = set()
    many = threading.Event()

    def send(daemon: Daemon, session: int) -> None:
        with contextlib.suppress(smtplib.SMTPException, ConnectionError), daemon.smtp() as client:
            for number in range(100_000):
                id_ = f"m{session}-{number}@x"
                client.sendmail(ANNA, [UNIVERSAL], mail(id_, sender=ANNA, to=CARLA))
                accepted.add(id_)
                if len(accepted) > 100:
                    many.set()

    with site.daemon("smart_bcc") as daemon:
        clients = [threading.Thread(target=send, args=(daemon, session), daemon=True) for session in range(5)]
        for client in clients:
            client.start()
        assert many.wait(PATIENCE)
        code, seconds = daemon.stop()
        for client in clients:
            client.join(PATIENCE)
    with site.daemon("smart_bcc") as daemon:  # files what waits
        daemon.deliver(mail("end@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("end@x")
        assert daemon.stop()[0] == 0

    (smtp,) = [line for line in site.command("status") if line["event"] == "smtp"]
    assert (smtp["messages"], smtp["open"]) == (1, 0)
    assert (code, seconds < 30) == (0, True)
    assert set(stored(tmp_path / "mail.db")) == accepted | {"end@x"}


def test_a_full_quarantine_refuses_strangers_alone(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.sections["quarantine"] = {"max_size": 0}
    with site.daemon("smart_bcc") as daemon:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            daemon.deliver(mail("a@x", sender="stranger@elsewhere.example", to=CARLA))
        assert (refused.value.smtp_code, refused.value.smtp_error[:5]) == (550, b"5.7.1")
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")

    assert site.query("SELECT count(*) FROM quarantine") == [(0,)]


# -- floods


async def pour(port: int, octets: int) -> None:
    """Sends so much without a line end, or until it is cut off."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    with contextlib.suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(10 * PATIENCE):
            await reader.readline()
            for command in ("HELO flood.example", f"MAIL FROM:<{ANNA}>", f"RCPT TO:<{UNIVERSAL}>", "DATA"):
                writer.write(f"{command}\r\n".encode())
                await reader.readline()
            block = b"x" * 256 * 1024
            for _ in range(0, octets, len(block)):
                writer.write(block)
                await writer.drain()
            await reader.read()
    writer.transport.abort()


def peak(pid: int) -> int:
    """The most memory that a process had at a time since `forget_peak`, in bytes (proc(5), VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def forget_peak(pid: int) -> int:
    """Begins a new measurement; returns what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return peak(pid)


def flood(directory: Path, max_message_size: int, octets: int) -> int:
    """By how much the daemon grows while 50 clients send lines without end."""
    directory.mkdir(exist_ok=True)
    site = Site(directory)
    site.sections["smart_bcc"]["max_message_size"] = max_message_size
    with site.daemon("smart_bcc") as daemon:
        daemon.deliver(mail("a@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("a@x")
        before = forget_peak(daemon.pid)

        async def all_at_once() -> None:
            await asyncio.gather(*(pour(daemon.smtp_port, octets) for _ in range(50)))

        asyncio.run(all_at_once())
        grown = peak(daemon.pid) - before
        daemon.deliver(mail("b@x", sender=ANNA, to=CARLA))
        daemon.wait_for_decisions("b@x")
    print(f"grew by {grown:,} bytes")
    return grown


def test_fifty_clients_that_send_without_end_cost_little_memory(tmp_path: Path) -> None:
    assert flood(tmp_path, 2_000_000, 6_000_000) < 50_000_000


@pytest.mark.torture
def test_fifty_clients_that_send_300_megabytes_each_cost_little_memory(tmp_path: Path) -> None:
    """Cut off at twice the largest message, and read to the end."""
    assert flood(tmp_path / "one", 20_000_000, 300_000_000) < 50_000_000
    assert flood(tmp_path / "other", 200_000_000, 300_000_000) < 50_000_000


def test_slow_and_flooding_clients_keep_no_honest_one_waiting(tmp_path: Path) -> None:
    """More clients than places: some say nothing, some drip a message, some come again and again with nonsense."""
    site = Site(tmp_path)
    site.sections["smart_bcc"]["max_connections"] = 40
    over = threading.Event()

    def rave(port: int) -> None:
        while not over.is_set():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(b"EHLO flood.example\r\nMAIL FROM:<>\r\n" + b"RCPT TO:<x@elsewhere.example>\r\n" * 50)
                client.recv(1000)

    with site.daemon("smart_bcc") as daemon, contextlib.ExitStack() as stack:
        port = daemon.smtp_port
        for number in range(60):
            idle = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            if number % 2:
                idle.sendall(f"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<{UNIVERSAL}>\r\nDATA\r\nS: drip".encode())
        ravers = [threading.Thread(target=rave, args=(port,), daemon=True) for _ in range(4)]
        for raver in ravers:
            raver.start()
        try:
            times = []
            for number in range(5):
                began = monotonic()
                assert taken_in_time(daemon, mail(f"m{number}@x", sender=ANNA, to=CARLA))
                times.append(monotonic() - began)
        finally:
            over.set()
            for raver in ravers:
                raver.join(PATIENCE)
        daemon.wait_for_decisions(*(f"m{number}@x" for number in range(5)))

    assert max(times) < 2.0
