"""Exit codes (contract.md, Commands; the high ones are those of sysexits.h)."""

OK = 0
FAILED = 1
USAGE = 2
GAPS = 3
"""An audit found mail that is missing."""
UNREACHABLE = 69
TRY_LATER = 75
NOT_PERMITTED = 77
CONFIGURATION = 78
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""


def of(error: BaseException) -> int | None:
    """The exit code for what is the admin's or the world's fault; None for a bug."""
    from maillinkd.imap.errors import ImapError, LoginRefused, NoPassword, NoToken
    from maillinkd.ingest.hand import NotPermitted, Refused
    from maillinkd.mail.delivery import Damaged, TemporaryFailure
    from maillinkd.oauth.token import LoginNeeded, TokenError, TryLater
    from maillinkd.settings import ConfigurationError
    from maillinkd.store.database import NoDatabase
    from maillinkd.store.upgrade import WrongSchema

    match error:
        case NotPermitted() | LoginRefused() | NoToken() | LoginNeeded():
            return NOT_PERMITTED
        case ConfigurationError() | NoDatabase() | NoPassword() | TokenError():
            return CONFIGURATION
        case Damaged():
            return FAILED
        case TemporaryFailure():
            return TRY_LATER
        case ImapError() | TryLater():
            return UNREACHABLE
        case Refused() | WrongSchema() | OSError():
            return FAILED
    return None
