"""Asking a server how it is, for probes that have no gRPC of their own."""

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT = 3.0  # s


# A probe asks this machine, whatever the environment says of proxies.
_OPTIONS = (("grpc.enable_http_proxy", 0),)


def probe(target: str) -> str:
    """What the health service of a server answers (`SERVING`, `NOT_SERVING`), or the code of the failure to ask it."""
    with grpc.insecure_channel(target, options=_OPTIONS) as channel:
        try:
            stub = health_pb2_grpc.HealthStub(channel)
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT)  # type: ignore[attr-defined]
        except grpc.RpcError as error:
            return str(error.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
