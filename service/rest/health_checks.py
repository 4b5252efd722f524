"""`/healthz` and `/readyz`, for probes that speak HTTP."""

import json
from collections.abc import Mapping

from service.readiness import Readiness
from service.rest.gateway import Page
from service.rest.responses import Response

_HEADERS = ((b"content-type", b"application/json"), (b"cache-control", b"no-store"))


def health_checks(readiness: Readiness) -> dict[str, Page]:
    """Return the liveness check, which succeeds while the event loop runs, and readiness.

    Clients learn the reasons against readiness, but not their details, which may name hosts of the operator's.
    """

    async def live(_: Mapping[bytes, bytes]) -> Response:
        return Response(200, [*_HEADERS], b'{"status":"alive"}')

    async def ready(_: Mapping[bytes, bytes]) -> Response:
        if readiness.is_ready:
            return Response(200, [*_HEADERS], b'{"status":"SERVING"}')
        body = json.dumps({"status": "NOT_SERVING", "reasons": list(readiness.reasons)}, separators=(",", ":"))
        return Response(503, [*_HEADERS], body.encode())

    return {"/healthz": live, "/readyz": ready}
