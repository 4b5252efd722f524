"""The standard health service (grpc.health.v1).

The messages come from grpcio-health-checking. Its servicer is not used: it writes to each watcher under one common
lock, so a client that stops reading starves the other watchers and blocks the shutdown. Here each watcher waits alone.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.errors import ServiceUnknown
from service.rpc.handlers import Context

_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Reports each of the services as SERVING until `set_not_serving` is called, and as NOT_SERVING afterwards."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._not_serving = asyncio.Event()

    def set_not_serving(self) -> None:
        """Report NOT_SERVING to every watcher and to every later check."""
        self._not_serving.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> _Status:
        if request.service not in self._services:
            raise ServiceUnknown
        return _Status(status=_Status.NOT_SERVING if self._not_serving.is_set() else _Status.SERVING)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> AsyncIterator[_Status]:
        if request.service not in self._services:
            # The protocol lets a watcher wait for an unknown service to appear; here none ever does.
            yield _Status(status=_Status.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        if not self._not_serving.is_set():
            yield _Status(status=_Status.SERVING)
            await self._not_serving.wait()
        yield _Status(status=_Status.NOT_SERVING)
        await asyncio.Event().wait()
