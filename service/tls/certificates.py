"""The server's certificate, its key and the CA of its clients: PEM files, verified, and read again when they change."""

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

_SHORTEST_RSA = 2048  # bits


@dataclass(frozen=True, slots=True)
class Pem:
    """What TLS needs, verified: the chain begins with the certificate of the key."""

    key: bytes = field(repr=False)
    chain: bytes
    client_ca: bytes | None
    ends: datetime
    """When the certificate expires."""
    names: tuple[str, ...]
    """The DNS names in the certificate."""


class Certificates:
    """The last good content of the files. Raises CertificateError if there is none to begin with."""

    def __init__(self, files: CertificateFiles) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._seen: Content | CertificateError = files.read()
        self.pem = verified(self._seen)
        self._tell()

    def renewed(self) -> Pem | None:
        """What the files hold, if that is new and good. To be asked before each handshake, in whatever thread.

        Their content is compared, not their times: three small files cost less than the handshake that follows, and no
        change is missed because it came within a tick of the clock. What is bad is logged once and left alone until it
        changes; a key that was written before its certificate, too, until that is there.
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
        """What is in the files, or why they cannot be read."""
        try:
            return self._files.read()
        except CertificateError as error:
            return error

    def _tell(self) -> None:
        _log.info("certificate read", file=self._files.cert, names=self.pem.names, ends=self.pem.ends.isoformat())


def verified(content: Content | CertificateError) -> Pem:
    """What was read, if TLS can be served with it. Raises CertificateError, also one that was met when reading."""
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
    """The key, if it is of a kind that gRPC's TLS can use."""
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise unusable("TLS_KEY", "it is encrypted with a password") from None
    except (ValueError, UnsupportedAlgorithm):
        raise unusable("TLS_KEY", "it has no private key in PEM") from None
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _SHORTEST_RSA:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1):
        return key
    raise unusable("TLS_KEY", f"it is neither an RSA key of {_SHORTEST_RSA} bits or more nor one of P-256 or P-384")


def dns_names(chain: bytes) -> tuple[str, ...]:
    """The DNS names in the first of these certificates. Raises CertificateError."""
    certificate, *_ = _certificates("TLS_CERT", chain)
    return _dns_names(certificate)


def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))
