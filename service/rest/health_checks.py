"""`/healthz` and `/readyz`, for probes that speak HTTP."""

from collections.abc import Mapping

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from service.rest.gateway import Calls, Page
from service.rest.responses import Response

_CHECK = "/grpc.health.v1.Health/Check"


def health_checks(calls: Calls) -> dict[str, Page]:
    """Return the liveness check, which succeeds while the process runs, and readiness, as the health service has it."""

    async def live(_: Mapping[bytes, bytes]) -> Response:
        return _response(200, "alive")

    async def ready(_: Mapping[bytes, bytes]) -> Response:
        health = await calls.call(_CHECK, HealthCheckRequest().SerializeToString(), (), None)
        assert isinstance(health, HealthCheckResponse)
        is_serving = health.status == HealthCheckResponse.SERVING
        return _response(200 if is_serving else 503, HealthCheckResponse.ServingStatus.Name(health.status))

    return {"/healthz": live, "/readyz": ready}


def _response(status: int, word: str) -> Response:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return Response(status, headers, b'{"status":"%b"}' % word.encode())
