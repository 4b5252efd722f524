"""`/healthz` and `/readyz`, for probes that speak HTTP."""

from collections.abc import Mapping

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from service.rest.gateway import Calls, Page
from service.rest.responses import Response, to_json

_CHECK = "/grpc.health.v1.Health/Check"
_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


def health_checks(calls: Calls) -> dict[str, Page]:
    """Return the liveness check, which succeeds while the process runs, and readiness, as the health service has it."""

    async def live(_: Mapping[bytes, bytes]) -> Response:
        return Response(200, [*_HEADERS], b'{"status":"alive"}')

    async def ready(_: Mapping[bytes, bytes]) -> Response:
        health = await calls.call(_CHECK, HealthCheckRequest().SerializeToString(), (), None)
        is_serving = health == HealthCheckResponse(status=HealthCheckResponse.SERVING)
        return Response(200 if is_serving else 503, [*_HEADERS], to_json(health))

    return {"/healthz": live, "/readyz": ready}
