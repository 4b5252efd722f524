"""Asking a server how it is, for probes that have no gRPC of their own."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.settings import Address

_TIMEOUT = 3.0  # s


def probe(address: Address) -> str:
    """What the server's health service answers (`SERVING`, `NOT_SERVING`), or the code of the failure to ask it."""
    # A server that listens on every address is asked on this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    with grpc.insecure_channel(str(Address(host, address.port))) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            return str(error.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
