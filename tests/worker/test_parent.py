"""The worker: what it gives back, and that nothing a job does harms the next one."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from maillinkd.mail.message import Message, read_all
from maillinkd.worker import parent
from maillinkd.worker.parent import Worker, WorkerFailed, WorkerMissing
from worker import jobs


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker finds the jobs of this test."""
    here = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH")))))


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with Worker() as started:
        yield started


async def test_a_job_gives_back_what_its_function_returns(worker: Worker) -> None:
    assert await worker.call(jobs.double, 21) == 42


async def test_jobs_are_done_in_the_order_in_which_they_were_asked_for(worker: Worker) -> None:
    assert await asyncio.gather(*(worker.call(jobs.double, n) for n in range(20))) == [2 * n for n in range(20)]


async def test_much_goes_over_in_both_directions(worker: Worker) -> None:
    size = 20 << 20
    assert await worker.call(jobs.large, size) == b"x" * size
    assert await worker.call(len, b"x" * size) == size


async def test_messages_are_read_there_as_here(worker: Worker) -> None:
    mails = [(b"From: Berta <berta@acme.example>\r\nMessage-ID: <a@x>\r\n\r\n", datetime(2026, 1, 1, tzinfo=UTC), 99)]
    (there,) = await worker.call(read_all, mails)
    assert isinstance(there, Message)
    assert [there] == read_all(mails)


async def test_what_a_job_prints_is_no_answer(worker: Worker, capfd: pytest.CaptureFixture[str]) -> None:
    assert await worker.call(jobs.say, "hello") == "hello"


FAILS: dict[str, tuple[Callable[[], object], str]] = {
    "raises": (jobs.complain, "ValueError: no such thing"),
    "asks for more memory than it may": (jobs.hoard, "MemoryError"),
    "ends the process": (jobs.die, "ended with 7"),
}


@pytest.mark.parametrize("how", FAILS)
async def test_a_job_that_fails_says_why_and_the_next_one_is_done(worker: Worker, how: str) -> None:
    function, why = FAILS[how]
    with pytest.raises(WorkerFailed, match=why):
        await worker.call(function)
    assert await worker.call(jobs.double, 2) == 4


async def test_a_job_that_takes_too_long_is_stopped_with_its_process() -> None:
    async with Worker(deadline=0.5) as worker:
        before = await worker.call(jobs.process)
        with pytest.raises(WorkerFailed, match=r"longer than 0\.5 seconds"):
            await worker.call(jobs.sleep, 60.0)
        assert await worker.call(jobs.process) != before
        assert not Path(f"/proc/{before}").exists()


async def test_the_system_stops_a_job_that_computes_too_long(worker: Worker) -> None:
    """The limit counts from the job's beginning, so that many small ones never reach it."""
    with pytest.raises(WorkerFailed, match="ended with -24"):  # SIGXCPU
        await worker.call(jobs.compute_with, 0)


async def test_a_caller_who_gives_up_leaves_no_answer_behind(worker: Worker) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await worker.call(jobs.sleep, 60.0)
    assert await worker.call(jobs.double, 3) == 6


async def test_it_does_not_inherit_secrets(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANNA_PASSWORD", "canary")
    assert "ANNA_PASSWORD" not in await worker.call(jobs.environment)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_what_is_meant_for_whoever_started_it_does_not_end_it(worker: Worker, number: signal.Signals) -> None:
    """systemd and terminals send it to the whole group; a mail that is being read is not to seem unreadable."""
    process = await worker.call(jobs.process)
    os.kill(process, number)

    assert await worker.call(jobs.process) == process


async def test_it_is_let_go_when_nobody_needs_it(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "IDLE", 0.0)
    before = await worker.call(jobs.process)
    assert worker._process is not None
    assert await worker._process.wait() == 0
    assert await worker.call(jobs.process) != before


async def test_it_can_be_started_before_there_is_a_job(worker: Worker) -> None:
    worker.warm_up()
    worker.warm_up()
    assert worker._start is not None
    await worker._start
    assert worker._process is not None
    assert await worker.call(jobs.process) == worker._process.pid


async def test_one_that_was_started_for_nothing_is_let_go(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent, "IDLE", 0.0)
    worker.warm_up()
    assert worker._start is not None
    await worker._start
    assert worker._process is not None
    assert await worker._process.wait() == 0


async def test_one_that_is_just_being_started_is_stopped_too() -> None:
    worker = Worker()
    worker.warm_up()
    await worker.close()
    assert worker._process is None


async def test_a_start_that_fails_is_told_by_the_job(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent.sys, "executable", "/nowhere/python")
    worker.warm_up()
    with pytest.raises(WorkerMissing, match="cannot start the worker"):
        await worker.call(jobs.double, 1)


async def test_a_process_that_cannot_be_had_is_a_failed_job(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parent.sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerMissing, match="cannot start the worker"):
        await worker.call(jobs.double, 1)
