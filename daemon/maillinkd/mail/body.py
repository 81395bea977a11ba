"""What is sought in the text of a mail. It takes full MIME parsing, and so is done where it can be stopped."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from maillinkd.mail.forward import Found, forwarded_addresses
from maillinkd.mail.message import Message
from maillinkd.mail.rewritten import content_ids

Mode = Literal["attached+inline", "attached", "off"]


class Body(NamedTuple):
    """What was found."""

    forwarded: Sequence[Found] = ()
    """linking.md, L15"""
    content_ids: tuple[str, ...] = ()
    """threading.md, T12"""


def read_body(raw: bytes, forwarded: Mode, sought: Message | None) -> Body:
    """`forwarded`: where forwarded addresses are sought; `sought`: the message whose content ids are wanted."""
    return Body(
        forwarded_addresses(raw, forwarded) if forwarded != "off" else (),
        content_ids(sought, raw) if sought is not None else (),
    )
