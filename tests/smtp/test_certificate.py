"""A certificate that is renewed while the listener runs."""

import ssl

import pytest
from structlog.testing import capture_logs

from maillinkd.smtp.certificate import Certificate
from maillinkd.smtp.listener import Listener
from smtp.dialogue import Client, Inbound, SelfSigned


def test_files_that_cannot_be_read_or_do_not_fit_are_refused_at_once(tls: SelfSigned) -> None:
    for certificate, key in (
        (tls.certificate.with_name("absent"), tls.key),
        (tls.certificate, tls.key.with_name("absent")),
        (tls.certificate, None),
        (tls.key, tls.key),
    ):
        with pytest.raises(OSError):
            Certificate(certificate, key)


def test_the_key_may_stand_in_the_same_file(tls: SelfSigned) -> None:
    both = tls.certificate.with_name("both.pem")
    both.write_bytes(tls.certificate.read_bytes() + tls.key.read_bytes())

    assert Certificate(both, None).context().minimum_version == ssl.TLSVersion.TLSv1_2


async def test_a_renewed_certificate_is_used_by_itself_and_a_broken_one_is_not(tls: SelfSigned) -> None:
    async def serial(listener: Listener) -> object:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        async with await Client.greeted(listener) as client:
            await client.ask("STARTTLS")
            await client.start_tls(context)
            return client.writer.get_extra_info("ssl_object").getpeercert(binary_form=True)

    async with tls.listening(Inbound()) as listener:
        old = await serial(listener)
        tls.renew()
        new = await serial(listener)
        good = tls.certificate.read_bytes()
        tls.certificate.write_bytes(b"no certificate")
        with capture_logs() as logs:
            assert await serial(listener) == await serial(listener) == new != old
        tls.certificate.unlink()
        assert await serial(listener) == new
        tls.certificate.write_bytes(good)
        assert await serial(listener) == new

    # Once for each change, not once a client.
    assert [entry["event"] for entry in logs if entry["event"].startswith("smtp_certificate_not")] == [
        "smtp_certificate_not_read"
    ]
