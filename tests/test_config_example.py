"""config/maillinkd.toml tells the truth: every key, its default, and a sentence; and all of it loads."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel

from maillinkd.linker.policy import SWITCHES, Policy
from maillinkd.settings import PolicySettings, Settings, load

EXAMPLE = Path(__file__).resolve().parent.parent / "config" / "maillinkd.toml"

# A key or table behind "#" without a space is one that may be taken in; "# " begins a sentence.
BEHIND = re.compile(r"^#(?=\[|[a-z_]+ = )", re.MULTILINE)

# The block that docs and other programs rely on; `…` stands for a path there.
CONTRACT = r"""
[database]
url = "sqlite:////var/lib/maillinkd/maillinkd.db"     # or postgresql://user@host/maillinkd ; drivers are chosen by us

[log]
format = "auto"            # auto (console on a terminal, else json) | console | json | journal
decisions = ""             # optional file that gets the decision lines alone, safe to rotate

[policy]
preset = "recommended"     # or "pipedrive-strict"; every switch of linking.md can be set beside it
internal_domains = ["ourco.example"]

[users.anna]
address = "anna@ourco.example"
aliases = ["anna.k@ourco.example"]
admin = true
auto_link = true

[teams.support]
members = ["anna", "ben"]

[mailboxes.anna]
owner = "anna"             # a user or a team; default: the user of the same name
host = "imap.example.com"
port = 993
tls = "implicit"           # implicit | starttls | none (refused except on loopback)
username = "anna@ourco.example"
auth = "password"          # password | oauth2
password_file = "…"        # or password_env, password_command = ["…"], or a systemd credential named after the mailbox
folders = ["INBOX", "\\Sent"]      # names, globs, or special-use flags; "*" = all but Drafts, Junk, Trash
since = "30d"              # first sync goes back this far, fixed as a date then; "all" for everything
store = "headers"          # headers | full
expunged = "keep"          # keep | mark
auto_link = true

[smart_bcc]
enabled = true
domain = "bcc.ourco.example"
local_part = "ourco"
listen = ["0.0.0.0:25", "[::]:25"]
tls_certificate = "…"      # STARTTLS offered when set; reloaded when renewed
tls_key = "…"
max_message_size = 20_000_000
require_authentication = true      # SPF or DKIM, aligned with From; false believes From (only for closed networks)
unknown_sender = "quarantine"      # or "reject" (then the author is checked before the reply to DATA)
forwarded = "attached+inline"      # linking.md L15
trusted_relays = []        # networks whose Authentication-Results (of authserv_id) and client address (XCLIENT/PROXY) are believed
authserv_id = ""
address_key_file = ""      # keyed address suffixes when set

[web]
listen = ""                # "127.0.0.1:8025" in the demo
[metrics]
listen = ""
"""  # noqa: E501  # copied as it stands

# The block names a member whom it does not define.
BEN = '\n[users.ben]\naddress = "ben@ourco.example"\n'


def uncommented() -> str:
    return BEHIND.sub("", EXAMPLE.read_text())


def tables(values: dict[str, Any]) -> Iterator[tuple[str, type[BaseModel], dict[str, Any]]]:
    """Every table of a file with its model: ("mailboxes.anna", MailboxSettings, {...})."""
    for section, known in Settings.model_fields.items():
        if get_origin(known.annotation) is dict:
            model = get_args(known.annotation)[1]
            for name, table in values.get(section, {}).items():
                yield f"{section}.{name}", model, table
        elif section in values:
            assert isinstance(known.annotation, type)
            yield section, known.annotation, values[section]


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a table that have a default, with it; a switch of the policy has that of "recommended"."""
    known = {key: field.default for key, field in model.model_fields.items() if not field.is_required()}
    if model is PolicySettings:
        known |= {switch: getattr(Policy(), switch) for switch in SWITCHES}
    return known


def as_toml(value: object) -> object:
    """A default as the file writes it."""
    match value:
        case None:
            return ""
        case tuple():
            return [str(part) for part in value]
        case _:
            return value


def test_every_key_is_there() -> None:
    shown = {name: set(table) for name, _, table in tables(tomllib.loads(uncommented()))}
    expected = {name: set(model.model_fields) for name, model, _ in tables(tomllib.loads(uncommented()))}

    assert shown == expected
    assert {name.partition(".")[0] for name in shown} == set(Settings.model_fields)


def test_every_value_shown_is_the_default() -> None:
    for name, model, table in tables(tomllib.loads(uncommented())):
        expected = {key: as_toml(value) for key, value in defaults(model).items()}

        assert (name, {key: table[key] for key in expected}) == (name, expected)


def test_as_it_is_it_says_nothing_else_than_no_file_at_all() -> None:
    assert load(EXAMPLE, {}) == Settings()


def test_with_everything_taken_in_it_loads(tmp_path: Path) -> None:
    path = tmp_path / "maillinkd.toml"
    path.write_text(uncommented())

    settings = load(path, {})

    assert (list(settings.users), list(settings.teams), list(settings.mailboxes)) == (["anna"], ["support"], ["anna"])
    assert settings.policy.chosen() == Policy()


def test_every_key_has_its_sentence() -> None:
    lines = EXAMPLE.read_text().splitlines()
    keys = [number for number, line in enumerate(lines) if re.match(r"#?[a-z_]+ = ", line)]

    assert [lines[number] for number in keys if not lines[number - 1].startswith("# ")] == []


def test_lines_are_short_enough_to_read() -> None:
    assert [line for line in EXAMPLE.read_text().splitlines() if len(line) > 120] == []


def test_the_contract_s_own_example_loads(tmp_path: Path) -> None:
    path = tmp_path / "maillinkd.toml"
    path.write_text(CONTRACT + BEN)

    settings = load(path, {})

    assert settings.mailboxes["anna"].owner == "anna"
    assert settings.smart_bcc.address == "ourco@bcc.ourco.example"
