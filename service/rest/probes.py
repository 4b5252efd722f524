"""Whether the process is alive, and whether it is ready for calls: for what watches over it by HTTP."""

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from service.rest.door import Call

_CHECK = "/grpc.health.v1.Health/Check"
_HEADERS = {"cache-control": "no-store"}


def probes(call: Call) -> list[Route]:
    """`/healthz`, which answers as long as it can, and `/readyz`, which answers what the health service says."""

    async def alive(_: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"}, headers=_HEADERS)

    async def ready(_: Request) -> JSONResponse:
        answer = await call(_CHECK, HealthCheckRequest().SerializeToString(), (), None, {})
        assert isinstance(answer, HealthCheckResponse)
        serving = answer.status == HealthCheckResponse.SERVING
        status = HealthCheckResponse.ServingStatus.Name(answer.status)
        return JSONResponse({"status": status}, status_code=200 if serving else 503, headers=_HEADERS)

    return [Route("/healthz", alive), Route("/readyz", ready)]
