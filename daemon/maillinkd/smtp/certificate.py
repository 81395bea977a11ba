"""The certificate for STARTTLS, read again when it is renewed."""

import ssl
from pathlib import Path

import structlog

log = structlog.get_logger()


class Certificate:
    """Certificate and key, and the TLS context that is made of them."""

    def __init__(self, certificate: Path, key: Path | None) -> None:
        """`certificate` is PEM, with its chain, and with the key where `key` is None.

        Raises OSError when the files can't be read or don't fit.
        """
        self._certificate = certificate
        self._key = key
        self._stamps = self._stamp_files()
        self._context = self._read()

    def context(self) -> ssl.SSLContext:
        """For TLS 1.2 and later. Certificate and key are read again when one of the files is another one: a pair that
        cannot be read, or does not fit (yet), leaves the old one in use."""
        stamps = self._stamp_files()
        if stamps != self._stamps:
            self._stamps = stamps
            try:
                self._context = self._read()
            except OSError as error:
                log.warning("smtp_certificate_not_read", error=str(error), file=str(self._certificate))
            else:
                log.info("smtp_certificate_renewed", file=str(self._certificate))
        return self._context

    def _read(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._certificate, self._key)
        return context

    def _stamp_files(self) -> tuple[tuple[int, int, int] | None, ...]:
        """What changes when certificate or key are replaced."""
        return tuple(_stamp(path) for path in (self._certificate, self._key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
