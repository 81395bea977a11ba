"""Our end of the worker: starts it when there is something to do, and stops it when it takes too long."""

import asyncio
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

IDLE = 30.0
"""Seconds without a job after which the process is let go: it holds some 25 MB."""
_BUFFER = 16 << 20
"""Bytes of an answer that are taken in before the rest has to wait."""
_ENVIRONMENT = ("PATH", "PYTHONPATH", "PYTHONHOME", "LANG", "LC_ALL")
"""What it inherits. Secrets may stand in the rest."""


class WorkerFailed(Exception):
    """The job was not done: it raised an error, took too long or too much, or the process could not be had."""


class WorkerMissing(WorkerFailed):
    """The process could not be started: the world's fault, not the job's."""


class Worker:
    """Runs pure functions in a process of its own, one at a time, in the order in which they were asked for."""

    def __init__(self, deadline: float = 15.0) -> None:
        """`deadline`: seconds that a job may take by the clock; the process is killed when it takes longer."""
        self._deadline = deadline
        self._turn = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._farewell: asyncio.TimerHandle | None = None
        self._start: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def warm_up(self) -> None:
        """Starts the process meanwhile, for a job that is about to come; where it cannot be had, that will say so."""
        if not self._turn.locked() and (self._start is None or self._start.done()):
            self._start = asyncio.create_task(self._warm_up())

    async def _warm_up(self) -> None:
        async with self._turn:
            with suppress(WorkerMissing):
                await self._running()
                self._let_go_when_idle()

    async def call(self, function: Callable[[*_Arguments], _T], *arguments: *_Arguments) -> _T:
        """What the function returns. It and its arguments are pickled, so it must stand at the top of its module.

        Raises WorkerFailed, or WorkerMissing.
        """
        async with self._turn:
            if self._farewell is not None:
                self._farewell.cancel()
            try:
                done, result = await self._ask(pickle.dumps((function, arguments), pickle.HIGHEST_PROTOCOL))
            except BaseException:
                await self._kill()  # its next answer would be that of this job
                raise
            self._let_go_when_idle()
        if not done:
            raise WorkerFailed(str(result))
        return result  # type: ignore[no-any-return]  # a pickle has no type

    async def close(self) -> None:
        """Ends the process, whatever it is doing."""
        await self._kill()
        if self._start is not None:  # it may have waited for that one's job
            await asyncio.wait([self._start])
            await self._kill()
        if self._farewell is not None:
            self._farewell.cancel()

    async def _ask(self, job: bytes) -> tuple[bool, Any]:
        process = await self._running()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(self._deadline):
                process.stdin.write(len(job).to_bytes(4, "big") + job)
                await process.stdin.drain()
                size = int.from_bytes(await process.stdout.readexactly(4), "big")
                answer = await process.stdout.readexactly(size)
        except TimeoutError:
            raise WorkerFailed(f"took longer than {self._deadline:g} seconds") from None
        except (OSError, EOFError):
            raise WorkerFailed(f"the worker ended with {await process.wait()}") from None
        return pickle.loads(answer)  # type: ignore[no-any-return]  # noqa: S301  # of our own process

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            pipe = asyncio.subprocess.PIPE
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            try:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", "-m", "maillinkd.worker.child"),
                    stdin=pipe, stdout=pipe, env=environment, limit=_BUFFER,
                )  # fmt: skip
            except OSError as error:
                raise WorkerMissing(f"cannot start the worker: {error}") from error
        return self._process

    def _let_go_when_idle(self) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
        self._farewell = asyncio.get_running_loop().call_later(IDLE, self._dismiss)

    def _dismiss(self) -> None:
        """It ends when nobody can give it work any more."""
        if self._process is not None and self._process.stdin is not None and not self._turn.locked():
            self._process.stdin.close()

    async def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
        await process.wait()
        if process.stdin is not None:
            process.stdin.close()
