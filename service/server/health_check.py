"""`taskwell health`: asks the health service of the server that has the same settings."""

from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.address import Address
from service.config.settings import Settings
from service.tls.files import read_pem

# A server that listens on all addresses is asked on loopback.
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_TIMEOUT = 3.0  # s
# Never through a proxy from the environment: the server is on this machine.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


class TlsClient(NamedTuple):
    """TLS parameters of the health check: `key` and `chain` are its client certificate. All PEM."""

    ca: bytes
    """CA of the server's certificate, or that certificate itself."""
    name: str | None
    """Name to expect in the server's certificate; None for the host of the address."""
    key: bytes
    chain: bytes


def check_health(settings: Settings) -> str:
    """Return the health of the local server: `SERVING` or another status or code. Raises CertificateError."""
    host = _LOOPBACK.get(settings.grpc.host, settings.grpc.host)
    return probe(str(Address(host, settings.grpc.port)), _tls_client(settings))


def _tls_client(settings: Settings) -> TlsClient | None:
    """Return the TLS parameters; None without TLS. Raises CertificateError."""
    if settings.tls is None:
        return None
    from service.tls.certificates import dns_names  # imports cryptography, which takes time

    chain, key, _ = settings.tls.read()
    ca = read_pem("HEALTH_CA", settings.health_ca) if settings.health_ca else chain
    name = next(iter(dns_names(chain)), None)
    if settings.health_cert and settings.health_key:
        chain, key = read_pem("HEALTH_CERT", settings.health_cert), read_pem("HEALTH_KEY", settings.health_key)
    return TlsClient(ca, name, key, chain)


def probe(target: str, tls: TlsClient | None = None) -> str:
    """Return what the health service says (`SERVING`, `NOT_SERVING`), or the status code of the failed call."""
    with _channel(target, tls) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            return str(error.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _channel(target: str, tls: TlsClient | None) -> grpc.Channel:
    if tls is None:
        return grpc.insecure_channel(target, options=_OPTIONS)
    name = (("grpc.ssl_target_name_override", tls.name),) if tls.name else ()
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.chain)
    return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *name))
