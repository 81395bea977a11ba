"""What providers' IMAP servers say around an access token, for a `FakeServer` to play."""

from base64 import b64decode, b64encode
from collections.abc import Callable

from system.imap_peer import FakeConnection, FakeServer

Holds = Callable[[str], bool]
"""Whether an access token is good, as the provider's authorization server knows."""

GMAIL = ("IMAP4rev1", "IDLE", "X-GM-EXT-1", "UIDPLUS", "SASL-IR", "AUTH=XOAUTH2", "AUTH=PLAIN", "AUTH=OAUTHBEARER")
MICROSOFT = ("IMAP4rev1", "IDLE", "AUTH=PLAIN", "AUTH=XOAUTH2", "SASL-IR", "UIDPLUS", "NAMESPACE", "LITERAL+")


def token_of(message: bytes) -> str:
    """The access token in what a client says (RFC 7628, 3.1; XOAUTH2)."""
    fields = message.split(b"\x01")
    (bearer,) = [field for field in fields if field.startswith(b"auth=Bearer ")]
    assert message.endswith(b"\x01\x01")
    return bearer.removeprefix(b"auth=Bearer ").decode()


def play(server: FakeServer, capabilities: tuple[str, ...], holds: Holds, refusal: str) -> list[tuple[str, bytes]]:
    """Has the server take access tokens; gives back the list of (mechanism, message) that it fills.

    `refusal`: the tagged answer to a bad token, which comes once the client has answered why.
    """
    server.capabilities = list(capabilities)
    said: list[tuple[str, bytes]] = []

    async def authenticate(connection: FakeConnection, tag: str, line: str) -> bool:
        _, mechanism, *initial = line.split(" ")
        if not initial:
            await connection.say("+ ")
            initial = [(await connection.reader.readline()).decode().strip()]
        message = b64decode(initial[0], validate=True)
        said.append((mechanism, message))
        if holds(token_of(message)):
            await connection.say(f"{tag} OK authenticated")
            return True
        why = b'{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}'
        await connection.say(f"+ {b64encode(why).decode()}")
        farewell = (await connection.reader.readline()).decode()
        assert farewell == {"XOAUTH2": "\r\n", "OAUTHBEARER": "AQ==\r\n"}[mechanism]
        await connection.say(f"{tag} {refusal}")
        return True

    server.on("AUTHENTICATE", authenticate)
    return said


def gmail(server: FakeServer, holds: Holds) -> list[tuple[str, bytes]]:
    return play(server, GMAIL, holds, "NO [AUTHENTICATIONFAILED] Invalid credentials (Failure)")


def microsoft(server: FakeServer, holds: Holds) -> list[tuple[str, bytes]]:
    return play(server, MICROSOFT, holds, "NO AUTHENTICATE failed.")


ACCESS_TOKEN_EXPIRED = "* BYE Session invalidated - AccessTokenExpired"
NOT_CONNECTED = "{tag} BAD User is authenticated but not connected."
BACK_OFF = "{tag} BAD Request is throttled. Suggested Backoff Time: 298732 milliseconds"

TOO_MUCH = {
    "Gmail, to a command": "{tag} NO [OVERQUOTA] Account exceeded command or bandwidth limits. q12mb1",
    "Gmail, and ends it": "* BYE [OVERQUOTA] Account exceeded command or bandwidth limits. q12mb1",
    "Gmail, without a code": "* BYE Account exceeded command or bandwidth limits. q12mb1",
    "Yahoo, to a command": "{tag} NO [LIMIT] UID FETCH Rate limit hit.",
    "Yahoo, after a good-bye": "* BYE IMAP4rev1 Server logging out\r\n{tag} NO [LIMIT] UID FETCH Rate limit hit.",
}
"""What servers say to who has asked for too much."""
BYE_BACK_OFF = "* BYE Request is throttled. Suggested Backoff Time: 2298732 milliseconds"
