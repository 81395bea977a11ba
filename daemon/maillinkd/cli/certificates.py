"""Whether the certificate that Smart Bcc offers can be used."""

import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maillinkd.settings import SmartBccSettings


def certificate_problem(settings: "SmartBccSettings") -> str | None:
    """What is wrong with certificate and key, None if nothing is."""
    assert settings.tls_certificate is not None
    assert settings.tls_key is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(settings.tls_certificate, settings.tls_key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        return f"cannot be used: {error}"
    return None
