"""Asking a server how it is, for probes that have no gRPC of their own."""

from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

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
