"""The arithmetic of DKIM signatures. The only file of the SMTP door that imports cryptography."""

import hashlib

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key

from maillinkd.smtp.auth.dkim import Key, Unusable

RSA_BITS = range(1024, 8193)
"""RFC 8301, 3.2: below 1,024 a key proves nothing; above 8,192 it only costs time."""
MAX_EXPONENT_BITS = 32


def require_signed(key: Key, signature: bytes, octets: bytes) -> None:
    """Raises Unusable unless the holder of the key signed these octets (RFC 8017, 8.2; RFC 8463, 3)."""
    try:
        if key.kind == "ed25519":
            Ed25519PublicKey.from_public_bytes(key.octets).verify(signature, hashlib.sha256(octets).digest())
        else:
            _rsa(key.octets).verify(signature, octets, PKCS1v15(), SHA256())
    except InvalidSignature:
        raise Unusable("the header was changed, or another key signed it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise Unusable("the key cannot be read") from None


def _rsa(octets: bytes) -> RSAPublicKey:
    """RFC 6376, 3.6.1: RSAPublicKey, or SubjectPublicKeyInfo as everybody publishes it."""
    key = load_der_public_key(octets)
    if not isinstance(key, RSAPublicKey):
        raise Unusable("the key is of another kind")
    if key.key_size not in RSA_BITS or key.public_numbers().e.bit_length() > MAX_EXPONENT_BITS:
        raise Unusable(f"the key has {key.key_size} bits")
    return key
