"""The command line: one file a group of commands, each parsing and printing only. `main` is the console entry."""

import os
import sys
from collections.abc import Sequence

from maillinkd.cli import root

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 69  # sysexits.h
TRY_LATER = 75
NOT_PERMITTED = 77
CONFIGURATION = 78
INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command, by default that of `sys.argv`, and returns its exit code (contract.md, Commands).

    What an admin can mend is said in a sentence on standard error; a bug keeps its traceback.
    """
    try:
        root.call(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as end:  # how typer ends, also after a wrong usage
        return end.code if isinstance(end.code, int) else FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output is gone; nothing is left to say to him
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        for line in _sentences(error):
            sys.stderr.write(f"maillinkd: {line}\n")
        return code
    return OK


def _exit_code(error: Exception) -> int | None:
    """The exit code of what is the admin's or the world's fault; None for a bug."""
    from maillinkd.imap.errors import ImapError, LoginRefused, NoPassword, Unreachable
    from maillinkd.ingest.hand import NotPermitted, Refused
    from maillinkd.mail.delivery import TemporaryFailure
    from maillinkd.settings import ConfigurationError
    from maillinkd.store.upgrade import WrongSchema

    match error:
        case ConfigurationError() | NoPassword():
            return CONFIGURATION
        case NotPermitted() | LoginRefused():
            return NOT_PERMITTED
        case Refused() | WrongSchema():
            return FAILED
        case TemporaryFailure():
            return TRY_LATER
        case Unreachable() | ImapError():
            return UNREACHABLE
        case OSError():
            return FAILED
    return None


def _sentences(error: Exception) -> list[str]:
    from maillinkd.logs import plain

    return [plain(line, 10_000) for line in str(error).splitlines()] or [type(error).__name__]


__all__ = ["main"]
