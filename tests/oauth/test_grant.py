"""What is asked of a token endpoint, and what becomes of each answer. Over real HTTP."""

import json
import socket
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from maillinkd.oauth import grant
from maillinkd.oauth.client import Client
from maillinkd.oauth.grant import Answer, granted
from maillinkd.oauth.token import LoginNeeded, TokenError, TryLater
from system.token_server import SCOPE, Said, TokenServer

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
SOMEWHERE = Client("generic", "", "id", "https://login.example/token", "", (SCOPE,))


@pytest.fixture
async def server() -> AsyncIterator[TokenServer]:
    async with TokenServer() as server:
        yield server


@cache
def rsa_key() -> tuple[str, str]:
    """A service account's private and public key, PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return private.decode(), public.decode()


def key_file(**changes: object) -> bytes:
    """As Google's console gives it."""
    fields = {
        "type": "service_account",
        "private_key_id": "k1",
        "private_key": rsa_key()[0],
        "client_email": "maillinkd@project.example",
    }
    return json.dumps(fields | changes).encode()


async def test_a_refresh_brings_a_token_whose_life_counts_from_before_it_was_asked_for(server: TokenServer) -> None:
    _, refresh_token = server.login()

    answer = await grant.refresh(server.client(), refresh_token, None, lambda: NOON)

    assert server.holds(answer.access.secret)
    assert (answer.access.issued_at, answer.access.expires_at) == (NOON, NOON + timedelta(hours=1))
    assert answer.refresh_token == ""  # the old one goes on to hold


async def test_a_public_client_sends_no_secret_and_a_confidential_one_does() -> None:
    async with TokenServer() as public, TokenServer(secret="s3") as confidential:
        await grant.refresh(public.client(), public.login()[1], None)
        await grant.refresh(confidential.client(), confidential.login()[1], "s3")

        assert "client_secret" not in public.forms[0]
        assert confidential.forms[0]["client_secret"] == "s3"


async def test_client_credentials_ask_for_the_scopes_of_the_application() -> None:
    async with TokenServer(secret="s3") as server:
        answer = await grant.by_client_credentials(server.client(), "s3")

        assert server.holds(answer.access.secret)
        assert server.forms[0]["scope"] == f"{SCOPE} offline_access"


async def test_a_service_account_signs_for_whom_it_acts(server: TokenServer) -> None:
    server.public_key = rsa_key()[1]

    answer = await grant.by_service_account(server.client(), key_file(), "anna@ourco.example")

    (claims,) = server.assertions
    assert server.holds(answer.access.secret)
    assert (claims["iss"], claims["sub"]) == ("maillinkd@project.example", "anna@ourco.example")
    assert (claims["scope"], claims["exp"] - claims["iat"]) == (f"{SCOPE} offline_access", 3600)
    assert "client_id" not in server.forms[0]


async def test_a_service_account_that_the_server_does_not_know_is_refused(server: TokenServer) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    server.public_key = (
        other.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )

    with pytest.raises(LoginNeeded, match="Invalid JWT"):
        await grant.by_service_account(server.client(), key_file(), "anna@ourco.example")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", key_file(private_key="canary"), key_file(private_key=7)])
async def test_a_key_file_that_is_none_is_refused_without_being_quoted(content: bytes) -> None:
    with pytest.raises(TokenError) as caught:
        await grant.by_service_account(SOMEWHERE, content, "anna")

    assert "service account file" in str(caught.value)
    assert "canary" not in str(caught.value)


def answer(status: int, body: object, **headers: str) -> Answer:
    return Answer(status, body if isinstance(body, bytes) else json.dumps(body).encode(), headers)


GOOD = {"access_token": "t", "token_type": "bearer"}


@pytest.mark.parametrize(
    ("said", "expected", "words"),
    [
        (
            answer(400, {"error": "invalid_grant", "error_description": "revoked"}),
            LoginNeeded,
            "invalid_grant: revoked",
        ),
        (answer(400, {"error": "interaction_required"}), LoginNeeded, "interaction_required"),
        (answer(401, {"error": "invalid_client"}), TokenError, "invalid_client"),
        (answer(400, {"error": ["odd"], "error_description": 7}), TokenError, "odd"),
        (answer(403, {}), TokenError, "no reason"),
        (answer(400, {"error": "temporarily_unavailable"}), TryLater, "temporarily_unavailable"),
        (answer(503, {"error": "invalid_grant"}), TryLater, "503"),
        (answer(429, b"busy"), TryLater, "429"),
        (answer(200, b"<html>"), TryLater, "200"),
        (answer(200, b"[" * 100_000), TryLater, "200"),
        (answer(404, b"what?"), TryLater, "404"),
        (answer(302, b""), TryLater, "302"),
        (answer(200, []), TryLater, "200"),
        (answer(200, {}), TryLater, "bearer"),
        (answer(200, {"access_token": "t", "token_type": "mac"}), TryLater, "bearer"),
        (answer(200, {"access_token": 7, "token_type": "bearer"}), TryLater, "bearer"),
        (answer(200, {"access_token": "a\r\nb", "token_type": "bearer"}), TryLater, "cannot be sent"),
        (answer(200, {"error": "invalid_grant"}), LoginNeeded, "invalid_grant"),
        (answer(400, {"error": "x", "error_description": "a\r\nb\x1b[2J" + "c" * 900}), TokenError, "x: a b [2Jccc"),
    ],
)
def test_an_answer_that_is_no_token_says_what_is_to_be_done(said: Answer, expected: type, words: str) -> None:
    with pytest.raises(Exception) as caught:
        granted(said, SOMEWHERE, NOON)

    assert type(caught.value) is expected
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("seconds", "life"),
    [
        (3600, 3600),
        ("3600", 3600),
        (1.5, 1.5),
        (10**40, 366 * 86_400),
        (None, None),
        (0, None),
        (-5, None),
        ("soon", None),
        ([], None),
        (float("nan"), None),
    ],
)
def test_a_life_that_is_none_counts_as_not_told(seconds: object, life: float | None) -> None:
    expires_at = granted(answer(200, GOOD | {"expires_in": seconds}), SOMEWHERE, NOON).access.expires_at

    assert expires_at == (None if life is None else NOON + timedelta(seconds=life))


def test_a_provider_that_is_busy_says_for_how_long() -> None:
    with pytest.raises(TryLater) as caught:
        granted(answer(429, b"", **{"retry-after": "120"}), SOMEWHERE, NOON)

    assert caught.value.retry_after == 120


async def test_a_redirect_is_not_followed_with_the_secret(server: TokenServer) -> None:
    server.says = [Said(307, b"", {"Location": f"{server.url}/elsewhere"})]

    with pytest.raises(TryLater, match="307"):
        await grant.refresh(server.client(), "r", None)
    assert server.paths == ["POST /token"]


async def test_a_provider_that_is_away_is_asked_again_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    away = Client("generic", "", "id", f"http://127.0.0.1:{port}/token", "", ())

    with pytest.raises(TryLater, match="cannot be asked"):
        await grant.refresh(away, "canary", None)


@pytest.mark.parametrize("given_back", ["1//canary-1", "1\\/\\/canary-1", "canary-secret"])
async def test_what_the_server_gives_back_of_our_secrets_is_not_told(server: TokenServer, given_back: str) -> None:
    server.says = [Said(400, b'{"error":"invalid_grant","error_description":"%s is void"}' % given_back.encode(), {})]

    with pytest.raises(LoginNeeded, match=r"\*\*\* is void") as caught:
        await grant.refresh(server.client(), "1//canary-1", "canary-secret")

    assert "canary" not in str(caught.value)
