"""The keys of each section, and what is asked of it alone."""

from datetime import date
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maillinkd.linker.policy import SWITCHES, Policy
from maillinkd.settings import Endpoint, MailboxSettings, PolicySettings, Settings, load
from settings.written import ANNA, Write, mailbox, problems, with_client


@pytest.mark.parametrize("section", ["web", "metrics"])
def test_what_is_not_built_is_refused(write: Write, section: str) -> None:
    found = problems(write(f"[{section}]\nlisten = '127.0.0.1:9100'"))

    assert found == {f"{section}.listen": 'not in this version: expected ""'}


def test_a_limit_that_watching_alone_would_use_up_is_refused(write: Write) -> None:
    found = problems(write(f"{ANNA}bytes_a_day = 1_000_000"))

    assert found == {"mailboxes.anna.bytes_a_day": "expected 0 (no limit), or 10000000 or more"}


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().log.format = "json"


def test_every_switch_of_the_linker_can_be_set() -> None:
    assert set(PolicySettings.model_fields) == {"preset", "internal_domains", "bulk", "block", *SWITCHES}


def test_a_switch_beside_the_preset_holds(write: Write) -> None:
    settings = load(write("[policy]\npreset = 'pipedrive-strict'\nsingle_contact = false"), {})

    assert settings.policy.chosen() == Policy.of("pipedrive-strict", {"single_contact": False})


def test_one_user_may_repeat_an_address() -> None:
    settings = Settings.model_validate({"users": {"anna": {"address": "a@x.example", "aliases": ["A@X.example"]}}})

    assert settings.users["anna"].addresses == ("a@x.example",)


@pytest.mark.parametrize(
    ("client", "grant", "personal"),
    [
        ("provider = 'google'\nclient_id = 'x'", "authorization_code", True),
        ("provider = 'google'\nservice_account_file = '/x'", "service_account", False),
        ("provider = 'microsoft'\nclient_id = 'x'", "device_code", True),
        ("provider = 'microsoft'\nclient_id = 'x'\ngrant = 'authorization_code'", "authorization_code", True),
    ],
)
def test_how_tokens_are_come_by_follows_the_provider(write: Write, client: str, grant: str, personal: bool) -> None:
    chosen = load(write(with_client(client)), {}).oauth_client_of("anna")

    assert chosen is not None
    assert (chosen.chosen_grant, chosen.needs_a_person) == (grant, personal)


TODAY = date(2026, 3, 31)


@pytest.mark.parametrize(
    ("since", "expected"),
    [
        ("30d", date(2026, 3, 1)),
        ("12w", date(2026, 1, 6)),
        ("1m", date(2026, 2, 28)),
        ("6m", date(2025, 9, 30)),
        ("1y", date(2025, 3, 31)),
        ("2026-01-05", date(2026, 1, 5)),
        ("all", None),
        ("9999d", date(1998, 11, 14)),
        ("9999w", date(1970, 1, 1)),
        ("9999y", date(1970, 1, 1)),
    ],
)
def test_how_far_back_a_first_sync_goes(since: str, expected: date | None) -> None:
    settings = MailboxSettings(owner="a", host="h", username="u", since=since)

    assert settings.since_date(TODAY) == expected


@given(number=st.integers(1, 9999), unit=st.sampled_from("dwmy"), today=st.dates(date(1970, 1, 1), date(2200, 1, 1)))
def test_no_way_back_leads_into_the_future_or_before_1970(number: int, unit: str, today: date) -> None:
    first = MailboxSettings(owner="a", host="h", username="u", since=f"{number}{unit}").since_date(today)

    assert first is not None
    assert date(1970, 1, 1) <= first <= today


def test_an_empty_way_is_no_way(write: Write) -> None:
    keys = "password_file = ''\npassword_env = ''\npassword_command = ['pass']"

    assert mailbox(write, keys).secret_ways == ("password_command",)


def test_smart_bcc_knows_its_address_and_where_it_listens(write: Write) -> None:
    text = (
        "[smart_bcc]\nenabled = true\ndomain = 'BCC.OurCo.example'\nlocal_part = 'OurCo'\n"
        "listen = ['127.0.0.1:2525', '[::1]:0', 'mail.example:25']\ntrusted_relays = ['192.0.2.1', '2001:db8::/32']"
    )

    smart_bcc = load(write(text), {}).smart_bcc

    assert smart_bcc.address == "ourco@bcc.ourco.example"
    assert smart_bcc.listen == (Endpoint("127.0.0.1", 2525), Endpoint("::1", 0), Endpoint("mail.example", 25))
    assert smart_bcc.trusted_relays == (ip_network("192.0.2.1/32"), ip_network("2001:db8::/32"))
