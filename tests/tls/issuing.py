"""Certificates for tests: a CA, the certificates it issues, and the files from which a server loads them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

HOSTS = ("localhost", "127.0.0.1")
GATEWAY = "gateway.example"
SPIFFE_ID = "spiffe://example/ns/apps/sa/gateway"


class Issued:
    """A certificate and its key, in PEM."""

    def __init__(self, key: bytes, chain: bytes) -> None:
        self.key = key
        self.chain = chain


class Authority:
    """A certificate authority."""

    def __init__(self) -> None:
        self._ca = trustme.CA()
        self.pem = self._ca.cert_pem.bytes()

    def issue(self, *names: str, **options: Any) -> Issued:
        """A certificate for DNS names, addresses and e-mail addresses."""
        made = self._ca.issue_cert(*names, **options)
        return Issued(made.private_key_pem.bytes(), b"".join(pem.bytes() for pem in made.cert_chain_pems))

    def issue_for(
        self,
        names: Sequence[x509.GeneralName],
        *,
        common_name: str = "client",
        valid: tuple[datetime, datetime] | None = None,
    ) -> Issued:
        """A certificate for names of any kind, or none."""
        key = ec.generate_private_key(ec.SECP256R1())
        ca_key = load_pem_private_key(self._ca.private_key_pem.bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey)
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(
            issuer_name=x509.load_pem_x509_certificate(self.pem).subject,
            subject_name=x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)]),
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=valid[0] if valid else now - timedelta(days=1),
            not_valid_after=valid[1] if valid else now + timedelta(days=1),
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(ca_key, hashes.SHA256())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Issued(pem, certificate.public_bytes(Encoding.PEM))

    def dated(self, start: timedelta, end: timedelta, now: datetime | None = None) -> Issued:
        """A certificate for localhost that is valid from and until these times from now."""
        now = now or datetime.now(UTC)
        return self.issue_for([x509.DNSName("localhost")], valid=(now + start, now + end))


class Files:
    """The certificate files of a server, in a folder."""

    def __init__(self, folder: Path, issued: Issued, client_ca: bytes | None = None) -> None:
        self.cert, self.key = folder / "server.pem", folder / "server-key.pem"
        self.client_ca = folder / "clients.pem" if client_ca else None
        self.write(issued)
        if self.client_ca and client_ca:
            self.client_ca.write_bytes(client_ca)

    def write(self, issued: Issued) -> None:
        self.key.write_bytes(issued.key)
        self.cert.write_bytes(issued.chain)

    @property
    def settings(self) -> dict[str, str]:
        names = {"tls_cert": self.cert, "tls_key": self.key, "tls_client_ca": self.client_ca}
        return {name: str(path) for name, path in names.items() if path}


def secure_channel(address: str, ca: bytes, client: Issued | None = None) -> grpc.Channel:
    """A channel with its own connection that verifies the server by `ca` and presents the certificate of `client`."""
    shown = (client.key, client.chain) if client else (None, None)
    credentials = grpc.ssl_channel_credentials(ca, *shown)
    return grpc.secure_channel(address, credentials, options=[("grpc.use_local_subchannel_pool", 1)])
