"""The server's certificate, its key and the CA of its clients: verified, and loaded again when the files change."""

import threading
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from service.tls.files import CertificateError, CertificateFiles, Content, unusable

_log = structlog.get_logger("auth")

_MIN_RSA_BITS = 2048


@dataclass(frozen=True, slots=True)
class Pem:
    """Verified PEM contents: the chain begins with the certificate of the key."""

    key: bytes = field(repr=False)
    chain: bytes
    client_ca: bytes | None
    ends: datetime
    """Expiry of the certificate."""
    names: tuple[str, ...]
    """The DNS names in the certificate."""


class Certificates:
    """The last valid contents of the files. Raises CertificateError if the files are not valid at the start."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._seen: Content | CertificateError = files.read()
        self.pem = verified(self._seen)
        self._tell()

    def renewed(self) -> Pem | None:
        """The new contents, if the files changed and are valid; else None. Called before each handshake, in any thread.

        Compares contents and not modification times: reading three small files costs less than the handshake that
        follows, and a second change within one tick of the clock is not missed. Invalid files are logged once and
        ignored until they change, for example a key that was written before its certificate.
        """
        with self._lock:
            seen = self._look()
            if seen == self._seen:
                return None
            self._seen = seen
            try:
                self.pem = verified(seen)
            except CertificateError as error:
                _log.warning("certificate not read", cause=str(error), kept_until=self.pem.ends.isoformat())
                return None
            self._tell()
            return self.pem

    def _look(self) -> Content | CertificateError:
        """The contents of the files, or the error that reading them raised."""
        try:
            return self._files.read()
        except CertificateError as error:
            return error

    def _tell(self) -> None:
        _log.info("certificate read", file=self._files.cert, names=self.pem.names, ends=self.pem.ends.isoformat())


def verified(content: Content | CertificateError) -> Pem:
    """Check that TLS can be served with these contents. Raises CertificateError, or the error of reading itself."""
    if isinstance(content, CertificateError):
        raise content
    chain, key, client_ca = content
    certificate, *_ = _certificates("TLS_CERT", chain)
    if not _belong_together(_private_key(key), certificate):
        raise unusable("TLS_KEY", "it is not the key of the first certificate in TASKWELL_TLS_CERT")
    if client_ca is not None:
        _certificates("TLS_CLIENT_CA", client_ca)
    return Pem(key, chain, client_ca, certificate.not_valid_after_utc, _dns_names(certificate))


def _certificates(setting: str, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise unusable(setting, "it has no certificate in PEM") from None


def _belong_together(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, certificate: x509.Certificate) -> bool:
    try:
        return key.public_key() == certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


def _private_key(pem: bytes) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """Load the key. Raises CertificateError unless gRPC's TLS supports its kind."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise unusable("TLS_KEY", "it is encrypted with a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise unusable("TLS_KEY", "it has no private key in PEM") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    raise unusable("TLS_KEY", f"it is neither an RSA key of {_MIN_RSA_BITS} bits or more nor one of P-256 or P-384")


def dns_names(chain: bytes) -> tuple[str, ...]:
    """The DNS names in the first certificate of a chain. Raises CertificateError."""
    certificate, *_ = _certificates("TLS_CERT", chain)
    return _dns_names(certificate)


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))
