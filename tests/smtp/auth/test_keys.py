"""The arithmetic of signatures: which keys are taken."""

import pytest

from maillinkd.smtp.auth.dkim import Key, Unusable
from maillinkd.smtp.auth.keys import require_signed
from smtp.auth.signing import ed25519_key, key_record, rsa_key, sign
from smtp.auth.test_dkim import MAIL, verify


@pytest.mark.parametrize("bits", [1024, 2048])
def test_long_enough(bits: int) -> None:
    assert verify(sign(MAIL, rsa_key(bits)), key_record(rsa_key(bits))) == "pass"


WEAK = (
    "MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAKj34GkxFhD90vcNLYLInFEX6Ppy1tPf9Cnzj4p4WGeKLs1Pt8Qu"
    "KUpRKfFLfRYC9AIKjbJTWit+CqvjWYzvQwECAwEAAQ=="
)
"""A key of 512 bits, which some versions of the library refuse to make."""


def test_too_short() -> None:
    assert verify(sign(MAIL, rsa_key()), f"v=DKIM1; p={WEAK}") == "the key has 512 bits"


def test_no_key_at_all() -> None:
    for octets in (b"", b"\x30", b"x" * 500):
        for kind in ("rsa", "ed25519"):
            with pytest.raises(Unusable):
                require_signed(Key(kind, octets, strict=False), b"signature", b"octets")


def test_a_key_of_another_kind_than_it_says() -> None:
    import base64

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    octets = ed25519_key().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    assert verify(sign(MAIL, rsa_key()), f"p={base64.b64encode(octets).decode()}") == "the key is of another kind"
