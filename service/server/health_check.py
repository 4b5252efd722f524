"""`taskwell health`: asks the server that runs with the same settings for its health."""

from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.address import Address
from service.config.settings import Settings
from service.tls.files import read_pem

# A server that listens on every address is asked on this machine's own.
_OWN = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
_TIMEOUT = 3.0  # s
# A probe asks this machine, whatever the environment says of proxies.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


class Trust(NamedTuple):
    """By what a TLS server is verified, and what is shown to it; all in PEM."""

    ca: bytes
    """The CA of its certificate, or the certificate itself."""
    name: str | None
    """A name that its certificate must have, if not that of its address."""
    key: bytes
    chain: bytes


def probe_itself(settings: Settings) -> str:
    """What the server of these settings says of itself: `SERVING`, or else. Raises CertificateError."""
    host = _OWN.get(settings.grpc.host, settings.grpc.host)
    return probe(str(Address(host, settings.grpc.port)), _trust(settings))


def _trust(settings: Settings) -> Trust | None:
    """How the probe and a TLS server know each other. Raises CertificateError."""
    if settings.tls is None:
        return None
    from service.tls.certificates import dns_names  # loads cryptography, which a probe without TLS does not need

    chain, key, _ = settings.tls.read()
    ca = read_pem("HEALTH_CA", settings.health_ca) if settings.health_ca else chain
    name = next(iter(dns_names(chain)), None)
    if settings.health_cert and settings.health_key:
        chain, key = read_pem("HEALTH_CERT", settings.health_cert), read_pem("HEALTH_KEY", settings.health_key)
    return Trust(ca, name, key, chain)


def probe(target: str, trust: Trust | None = None) -> str:
    """What the health service of a server answers (`SERVING`, `NOT_SERVING`), or the code of the failure to ask it."""
    with _channel(target, trust) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            return str(error.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _channel(target: str, trust: Trust | None) -> grpc.Channel:
    if trust is None:
        return grpc.insecure_channel(target, options=_OPTIONS)
    name = (("grpc.ssl_target_name_override", trust.name),) if trust.name else ()
    credentials = grpc.ssl_channel_credentials(trust.ca, trust.key, trust.chain)
    return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *name))
