"""The command line: one file a group of commands, each parsing and printing only. `main` is the console entry."""

import ctypes
import gc
import os
import sys
from collections.abc import Sequence

from maillinkd.cli import exit_codes, root


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, by default that of `sys.argv`, and returns its exit code (contract.md, Commands).

    What an admin can mend is said in a sentence on standard error; a bug keeps its traceback.
    """
    gc.set_threshold(50_000, 20, 20)  # many small values, nearly none in cycles: looking for them costs a fifth
    _share_freed_memory()
    try:
        root.call(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as end:  # how typer ends, also after a wrong usage
        return end.code if isinstance(end.code, int) else exit_codes.FAILED
    except Exception as error:
        code = exit_codes.of(error)
        if code is None:
            raise
        for line in str(error).splitlines() or [type(error).__name__]:
            _complain(line)
        return code
    return exit_codes.OK


_M_ARENA_MAX = -8
"""<malloc.h> of glibc."""


def _share_freed_memory() -> None:
    """Has the threads share two arenas (mallopt(3)): glibc keeps what was freed by each for itself, a tenth of the
    memory of a first sync. Nothing where the C library has no arenas, or $MALLOC_ARENA_MAX says how many."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None and "MALLOC_ARENA_MAX" not in os.environ:
        mallopt(_M_ARENA_MAX, 2)


def _complain(line: str) -> None:
    from maillinkd.cli.output import complain

    complain(f"maillinkd: {line}")


__all__ = ["main"]
