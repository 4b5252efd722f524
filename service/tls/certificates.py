"""The server's certificate, its key and the CA of its clients: verified, and loaded again when the files change."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from service.tls.files import CertificateError, CertificateFiles, Content, unusable

_log = structlog.get_logger("auth")

_MIN_RSA_BITS = 2048
# A certificate that ends sooner is reported at each reading and once a day.
_WARN_BELOW = timedelta(days=14)
_ERROR_BELOW = timedelta(days=2)
_DAY = timedelta(days=1)


class NotYetValid(CertificateError):
    """A certificate is not valid yet. It will be, without any change of its file."""


@dataclass(frozen=True, slots=True)
class Pem:
    """Verified PEM contents: the chain begins with the certificate of the key."""

    key: bytes = field(repr=False)
    chain: bytes
    client_ca: bytes | None
    names: tuple[str, ...]
    """The DNS names in the certificate."""
    chain_ends: datetime
    """The first expiry in the chain."""
    client_ca_ends: tuple[datetime, ...] = ()
    """The expiry of each CA of the clients."""

    def ends(self, now: datetime) -> Mapping[str, datetime]:
        """When the server can no longer use the `certificate`, and the next of its client CAs, if it has any."""
        if not self.client_ca_ends:
            return {"certificate": self.chain_ends}
        valid = [end for end in self.client_ca_ends if end >= now]
        return {"certificate": self.chain_ends, "client_ca": min(valid, default=max(self.client_ca_ends))}


class Certificates:
    """The last valid contents of the files. Raises CertificateError if the files are not valid at the start."""

    def __init__(self, files: CertificateFiles, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.files = files
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: Content | CertificateError = files.read()
        self._is_too_early = False
        self.pem = verified(self._seen, clock())
        self._tell()

    def follow(self) -> Callable[[], Pem | None]:
        """Return a function that returns `latest` if it has changed since the last call, else None."""
        told = self.pem

        def renewed() -> Pem | None:
            nonlocal told
            latest = self.latest()
            if latest is told:
                return None
            told = latest
            return latest

        return renewed

    def latest(self) -> Pem:
        """Look at the files, and return the last valid contents. Called before each handshake, in any thread.

        Compares contents and not modification times: reading three small files costs less than the handshake that
        follows, and a second change within one tick of the clock is not missed. Invalid files are logged once and
        ignored until they change, for example a key that was written before its certificate, or become valid.
        """
        with self._lock:
            seen = self._look()
            is_new = seen != self._seen
            if is_new or self._is_too_early:
                self._seen = seen
                self._replace(seen, is_new=is_new)
            return self.pem

    def report(self) -> None:
        """Log each certificate that ends soon: an error in the last two days, a warning in the last two weeks."""
        now = self._clock()
        for file, end in self.pem.ends(now).items():
            left = end - now
            if left < _WARN_BELOW:
                report = _log.error if left < _ERROR_BELOW else _log.warning
                report("certificate expires", file=file, ends=end.isoformat(), days_left=round(left / _DAY, 1))

    def _replace(self, seen: Content | CertificateError, *, is_new: bool) -> None:
        try:
            self.pem = verified(seen, self._clock())
        except CertificateError as error:
            self._is_too_early = isinstance(error, NotYetValid)
            if is_new:
                _log.warning("certificate not read", cause=str(error), kept_until=self.pem.chain_ends.isoformat())
        else:
            self._is_too_early = False
            self._tell()

    def _look(self) -> Content | CertificateError:
        """The contents of the files, or the error that reading them raised."""
        try:
            return self.files.read()
        except CertificateError as error:
            return error

    def _tell(self) -> None:
        ends = self.pem.chain_ends.isoformat()
        _log.info("certificate read", file=self.files.cert, names=self.pem.names, ends=ends)
        self.report()


def verified(content: Content | CertificateError, now: datetime) -> Pem:
    """Check that TLS can be served with these contents. Raises CertificateError, or the error of reading itself.

    All certificates of the chain must be valid at this time. Of the CAs of the clients one must be: after a change of
    the CA the old one may stay in the file.
    """
    if isinstance(content, CertificateError):
        raise content
    chain, key, client_ca = content
    certificates = _certificates("TLS_CERT", chain)
    if not _belong_together(_private_key(key), certificates[0]):
        raise unusable("TLS_KEY", "it is not the key of the first certificate in TASKWELL_TLS_CERT")
    for failure in _invalid("TLS_CERT", certificates, now):
        raise failure
    authorities = _certificates("TLS_CLIENT_CA", client_ca) if client_ca is not None else []
    failures = list(_invalid("TLS_CLIENT_CA", authorities, now))
    if authorities and len(failures) == len(authorities):
        raise failures[0]
    return Pem(
        key,
        chain,
        client_ca,
        names=_dns_names(certificates[0]),
        chain_ends=min(each.not_valid_after_utc for each in certificates),
        client_ca_ends=tuple(each.not_valid_after_utc for each in authorities),
    )


def _invalid(setting: str, certificates: list[x509.Certificate], now: datetime) -> Iterable[CertificateError]:
    """Yield an error for each certificate that is not valid at this time."""
    for number, each in enumerate(certificates, start=1):
        which = f"certificate {number} in the file" if len(certificates) > 1 else "the certificate"
        if now > each.not_valid_after_utc:
            yield unusable(setting, f"{which} has expired: it was valid until {each.not_valid_after_utc.isoformat()}")
        elif now < each.not_valid_before_utc:
            yield NotYetValid(
                f"TASKWELL_{setting}: {which} is not valid yet: it is from {each.not_valid_before_utc.isoformat()} on. "
                f"The clock of this machine says {now.isoformat(timespec='seconds')}"
            )


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
