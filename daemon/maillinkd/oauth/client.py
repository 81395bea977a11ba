"""PURE: what a provider is to be asked, where, for which scopes: the presets, and what the settings say beside them.

Google: developers.google.com, "Using OAuth 2.0 to Access Google APIs" and "OAuth 2.0 Mechanism" (Gmail IMAP).
Microsoft: learn.microsoft.com, "Authenticate an IMAP, POP or SMTP connection using OAuth".
"""

from dataclasses import dataclass
from typing import Protocol

MICROSOFT = "https://login.microsoftonline.com"

_GMAIL = ("https://mail.google.com/",)
_OUTLOOK = ("https://outlook.office.com/IMAP.AccessAsUser.All", "offline_access")
_OUTLOOK_APPLICATION = ("https://outlook.office365.com/.default",)


class Registration(Protocol):
    """What the settings say of a client (`[oauth_clients.NAME]`)."""

    @property
    def provider(self) -> str: ...
    @property
    def chosen_grant(self) -> str: ...
    @property
    def client_id(self) -> str: ...
    @property
    def tenant(self) -> str: ...
    @property
    def authorization_endpoint(self) -> str: ...
    @property
    def token_endpoint(self) -> str: ...
    @property
    def scopes(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Client:
    """A client (RFC 6749, 2) with all that is needed to ask for tokens, but its secret."""

    provider: str
    grant: str
    client_id: str
    token_endpoint: str
    authorization_endpoint: str
    scopes: tuple[str, ...]
    redirect_host: str = "127.0.0.1"
    """How the provider wants the loopback interface to be named (RFC 8252, 7.3)."""
    authorization_parameters: tuple[tuple[str, str], ...] = ()
    """What the provider wants in the authorization request beside RFC 6749."""

    @property
    def authority(self) -> str:
        """The token endpoint's own site, `https://login.microsoftonline.com/TENANT`, as msal names it."""
        return self.token_endpoint.removesuffix("/oauth2/v2.0/token")


def client_of(registration: Registration) -> Client:
    """The client of a registration; what it leaves open is as the provider documents it."""
    match registration.provider:
        case "google":
            token, authorization = (
                "https://oauth2.googleapis.com/token",
                "https://accounts.google.com/o/oauth2/v2/auth",
            )
            scopes: tuple[str, ...] = _GMAIL
            # Without these two there is no refresh token, or none but the first time.
            parameters: tuple[tuple[str, str], ...] = (("access_type", "offline"), ("prompt", "consent"))
        case "microsoft":
            site = f"{MICROSOFT}/{registration.tenant}/oauth2/v2.0"
            token, authorization = f"{site}/token", f"{site}/authorize"
            scopes = _OUTLOOK_APPLICATION if registration.chosen_grant == "client_credentials" else _OUTLOOK
            parameters = (("prompt", "select_account"),)
        case _:
            token, authorization, scopes, parameters = "", "", (), ()
    return Client(
        provider=registration.provider,
        grant=registration.chosen_grant,
        client_id=registration.client_id,
        token_endpoint=registration.token_endpoint or token,
        authorization_endpoint=registration.authorization_endpoint or authorization,
        scopes=registration.scopes or scopes,
        # Microsoft takes any port behind the "localhost" that is registered, and no address.
        redirect_host="localhost" if registration.provider == "microsoft" else "127.0.0.1",
        authorization_parameters=parameters,
    )
