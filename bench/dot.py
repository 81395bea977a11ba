"""How long a sender waits for the answer to the dot, at half the load that the Smart Bcc door can bear.

    python bench/dot.py [--messages 3000] [--sessions 20] [--rate 0]

The real daemon, as bench/smtp.py starts it, takes 4 kB messages over connections that are kept. First as fast as it
can; then at half that rate (or `--rate` messages a second), and the wait from the dot to 250 is measured.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

import uvloop

import smtp

BODY = b"x" * 76 + b"\r\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=3_000)
    parser.add_argument("--sessions", type=int, default=20)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="maillinkd-bench-") as scratch:
        directory = Path(scratch) / "ours"
        directory.mkdir()
        with smtp.maillinkd(directory) as server:
            rate = options.rate or uvloop.run(_send(server.port, options.messages, options.sessions, 0.0))[0] / 2
            smtp.settle(server)
            sent, waits = uvloop.run(_send(server.port, options.messages, options.sessions, rate))
            smtp.settle(server)
    cuts = statistics.quantiles(waits, n=100)
    found = {"median": cuts[49], "95th": cuts[94], "99th": cuts[98], "slowest": max(waits)}
    print(f"{sent:.0f} messages a second over {options.sessions} sessions, wait for the answer to the dot in ms:")
    print("   ".join(f"{name} {seconds * 1e3:.1f}" for name, seconds in found.items()))


async def _send(port: int, messages: int, sessions: int, rate: float) -> tuple[float, list[float]]:
    """Sends them, not faster than `rate` a second unless that is 0. Returns the rate, and each wait in seconds."""
    waits: list[float] = []
    started = time.perf_counter()
    numbers = iter(range(messages))

    async def session() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def say(line: bytes) -> None:
            writer.write(line + b"\r\n")
            answer = await reader.readline()
            while answer[3:4] == b"-":
                answer = await reader.readline()
            if answer[:1] not in b"23":
                raise RuntimeError(answer.decode())

        await reader.readline()
        await say(b"EHLO bench.example")
        for number in numbers:
            if rate:
                await asyncio.sleep(started + number / rate - time.perf_counter())
            await say(b"MAIL FROM:<anna@ourco.example>")
            await say(f"RCPT TO:<{smtp.RECIPIENT}>".encode())
            await say(b"DATA")
            writer.write(_message(number))
            before = time.perf_counter()
            await say(b".")
            waits.append(time.perf_counter() - before)
        await say(b"QUIT")
        writer.close()

    await asyncio.gather(*(session() for _ in range(sessions)))
    return messages / (time.perf_counter() - started), waits


def _message(number: int) -> bytes:
    head = (
        f"From: anna@ourco.example\r\nTo: carla@client.example\r\nMessage-ID: <{time.time_ns()}.{number}@x>\r\n\r\n"
    )
    return head.encode() + BODY * (smtp.MESSAGE_OCTETS // len(BODY))


if __name__ == "__main__":
    main()
