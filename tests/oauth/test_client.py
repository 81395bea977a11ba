"""The presets, as the providers document them, and what a registration sets in their place."""

from dataclasses import dataclass

import pytest

from maillinkd.oauth.client import client_of


@dataclass(frozen=True)
class Registered:
    provider: str = "google"
    chosen_grant: str = "authorization_code"
    client_id: str = "id"
    tenant: str = "common"
    authorization_endpoint: str = ""
    token_endpoint: str = ""
    scopes: tuple[str, ...] = ()


@pytest.mark.parametrize(
    ("registered", "token_endpoint", "scopes"),
    [
        (Registered(), "https://oauth2.googleapis.com/token", ("https://mail.google.com/",)),
        (
            Registered("microsoft", "device_code", tenant="ourco.example"),
            "https://login.microsoftonline.com/ourco.example/oauth2/v2.0/token",
            ("https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access"),
        ),
        (
            Registered("microsoft", "client_credentials"),
            "https://login.microsoftonline.com/common/oauth2/v2.0/token",
            ("https://outlook.office365.com/.default",),
        ),
        (Registered("generic", token_endpoint="https://t", scopes=("mail",)), "https://t", ("mail",)),
        (Registered(token_endpoint="https://t", scopes=("a", "b")), "https://t", ("a", "b")),
    ],
)
def test_endpoints_and_scopes(registered: Registered, token_endpoint: str, scopes: tuple[str, ...]) -> None:
    client = client_of(registered)

    assert (client.token_endpoint, client.scopes) == (token_endpoint, scopes)


def test_google_gives_a_refresh_token_only_where_it_is_asked_for_offline_access() -> None:
    assert client_of(Registered()).authorization_parameters == (
        ("access_type", "offline"),
        ("prompt", "consent"),
    )


def test_msal_wants_the_authority_and_microsoft_the_name_of_localhost() -> None:
    client = client_of(Registered("microsoft", "device_code", tenant="ourco.example"))

    assert client.authority == "https://login.microsoftonline.com/ourco.example"
    assert (client.redirect_host, client_of(Registered()).redirect_host) == ("localhost", "127.0.0.1")
