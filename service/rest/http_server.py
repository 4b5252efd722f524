"""Serves the gateway over HTTP/1.1, with uvicorn and h11 (docs/decisions, "REST on uvicorn")."""

import asyncio
import math
import socket
import ssl
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from service.rest.connections import Connections, Limits

# Connections get this long to close after their last response (s). Over TLS a client may never confirm the end.
_CLOSE_SECONDS = 1.0
# Of a response, this much (bytes) may wait in the kernel, which does not tell how long.
_KERNEL_BYTES = 128 * 2**10


class _Server(uvicorn.Server):
    """uvicorn's server without its signal handlers: the process has its own (service/server/app.py)."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


class HttpServer:
    """Serves an ASGI application on sockets, from `start` to `stop`."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._app, self._limits = app, limits
        self._requests: set[asyncio.Task[None]] = set()

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Accept connections on these bound sockets."""
        for each in sockets:  # accepted sockets inherit it
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _KERNEL_BYTES)
        config = uvicorn.Config(
            self._track,
            # h11 keeps trailers apart from headers, bounds the head and hands on one request at a time.
            http="h11",
            ws="none",
            lifespan="off",
            interface="asgi3",
            workers=1,
            log_config=None,
            log_level="error",  # anybody can cause its warnings
            access_log=False,
            proxy_headers=False,
            server_header=False,
            # A request must not run in the context of the one before, whose caller the interceptor has put into it.
            reset_contextvars=True,
            timeout_keep_alive=math.ceil(self._limits.idle_seconds),
            h11_max_incomplete_event_size=self._limits.head_bytes,
            ssl_context_factory=(lambda *_: tls) if tls else None,
        )
        config.load()
        connections = Connections(self._limits)
        config.http_protocol_class = partial(connections.make, config.http_protocol_class)  # type: ignore[assignment]
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(list(sockets)))
        self._sweeping = asyncio.create_task(connections.close_overdue())
        while not self._server.started:
            await asyncio.wait({self._serving}, timeout=0.01)
            if self._serving.done():
                self._serving.result()

    async def stop(self, grace: float) -> None:
        """Stop accepting, close idle connections, and cancel requests that do not end within `grace` seconds."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + grace
        self._server.should_exit = True
        await asyncio.wait({self._serving}, timeout=min(grace, _CLOSE_SECONDS))
        while self._requests and loop.time() < ends:
            await asyncio.wait(self._requests, timeout=ends - loop.time())
        for request in self._requests:
            request.cancel()
        await asyncio.wait({self._serving}, timeout=_CLOSE_SECONDS)
        self._serving.cancel()
        self._sweeping.cancel()
        await asyncio.wait({self._serving, self._sweeping})

    async def _track(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = asyncio.current_task()
        assert request
        self._requests.add(request)
        try:
            with suppress(asyncio.CancelledError), scope["state"]["connection"].serving():
                await self._app(scope, receive, send)
        finally:
            self._requests.discard(request)
