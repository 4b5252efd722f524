"""The standard health service (grpc.health.v1).

grpcio-health-checking brings the messages; its servicer writes to a watcher while it holds the lock of all of them, so
that one client which reads nothing would starve the others and hold up the shutdown. Here every watcher waits alone.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

from grpc_health.v1 import health_pb2, health_pb2_grpc

from service.errors import ServiceUnknown
from service.rpc.handlers import Context

_Status = health_pb2.HealthCheckResponse


class Health(health_pb2_grpc.HealthServicer):
    """Answers SERVING for each of these services until `end` is called, and NOT_SERVING from then on."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Say NOT_SERVING, to who asks from now on and to who watches."""
        self._ended.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> _Status:
        if request.service not in self._services:
            raise ServiceUnknown
        return _Status(status=_Status.NOT_SERVING if self._ended.is_set() else _Status.SERVING)

    async def Watch(self, request: health_pb2.HealthCheckRequest, context: Context) -> AsyncIterator[_Status]:
        if request.service not in self._services:
            # The protocol has a watcher of an unknown service wait for it to appear; here none ever does.
            yield _Status(status=_Status.SERVICE_UNKNOWN)
            await asyncio.Event().wait()
        if not self._ended.is_set():
            yield _Status(status=_Status.SERVING)
            await self._ended.wait()
        yield _Status(status=_Status.NOT_SERVING)
        await asyncio.Event().wait()
