"""What the checks of a mail's author came to, as it is stored and shown (linking.md L14)."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum


class Standing(StrEnum):
    """Whether a mail is its author's."""

    PASS = "pass"  # noqa: S105  # RFC 8601's word
    FAIL = "fail"
    TEMPORARY = "temporary"
    """DNS did not answer, and nothing else proves it: to be asked again."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """One check. The words of `spf` and `dkim` are those of RFC 8601, 2.7, and `unaligned`, `unchecked`."""

    standing: Standing
    spf: str = "unchecked"
    dkim: str = "unchecked"
    why: str = ""
    """What led to it, in a few words for people. May quote the mail: to be escaped when shown."""
    relay: str = ""
    """The trusted relay whose Authentication-Results were believed; "" where we checked ourselves."""

    def __str__(self) -> str:
        """`spf=fail dkim=none (why)`"""
        return f"spf={self.spf} dkim={self.dkim}" + (f" ({self.why})" if self.why else "")

    @property
    def words(self) -> dict[str, str]:
        """What a log line says of it: nothing that the mail could have chosen."""
        return {"spf": self.spf, "dkim": self.dkim}

    def to_text(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_text(cls, text: str) -> "Verdict":
        given = json.loads(text)
        return cls(**given | {"standing": Standing(given["standing"])})
