"""The standard health service (grpc.health.v1).

The messages come from grpcio-health-checking. Its servicer is not used: it writes to each watcher under one common
lock, so a client that stops reading starves the other watchers and blocks the shutdown. Here each watcher waits alone.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.errors import ServiceUnknown
from service.readiness import Readiness
from service.rpc.handlers import Context

_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Reports each of the services as SERVING while this process is ready, else as NOT_SERVING."""

    def __init__(self, services: Iterable[str], readiness: Readiness) -> None:
        self._services = frozenset(services)
        self._readiness = readiness

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> _Status:
        if request.service not in self._services:
            raise ServiceUnknown
        return self._status()

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> AsyncIterator[_Status]:
        if request.service not in self._services:
            # The protocol lets a watcher wait for an unknown service to appear; here none ever does.
            yield _Status(status=_Status.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        told = None
        while True:
            change = self._readiness.change
            status = self._status()
            if status != told:
                told = status
                yield status
            await change.wait()

    def _status(self) -> _Status:
        return _Status(status=_Status.SERVING if self._readiness.is_ready else _Status.NOT_SERVING)
