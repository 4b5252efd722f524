"""Where the door listens: its sockets, its connections, its clock, and its end."""

import asyncio
import socket
import ssl
from collections.abc import Sequence
from email.utils import formatdate
from typing import cast

import structlog
from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.server import ServerState

from service.rest.connections import Connection
from service.rest.limits import Limits

_log = structlog.get_logger("rest")
_BACKLOG = 2048
_LONGEST_PAUSE = 1.0  # s; between sweeps
_FAREWELL = 1.0  # s; for a client to say that it has heard the end of TLS


class Listener:
    """Serves an application on sockets, from `start` to `stop`."""

    def __init__(self, app: ASGIApp, limits: Limits) -> None:
        self._limits = limits
        self._config = Config(
            app,
            http="httptools",
            interface="asgi3",
            workers=1,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self._servers: list[asyncio.Server] = []
        self._sweeping: asyncio.Task[None] | None = None
        self._lost = asyncio.Event()

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext | None) -> None:
        """Accept connections on these sockets, which are bound."""
        loop = asyncio.get_running_loop()
        patience = self._limits.request_seconds if tls else None
        self._servers = [
            await loop.create_server(
                self._connection,
                sock=each,
                ssl=tls,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=_FAREWELL if tls else None,
                backlog=_BACKLOG,
            )
            for each in sockets
        ]
        self._sweeping = asyncio.create_task(self._sweep())

    def retire(self) -> None:
        """Announce with each answer from now on that it is the connection's last."""
        self._limits = self._limits._replace(age_seconds=-1.0)
        for connection in self._connections():
            connection.retire()

    async def stop(self, grace: float) -> None:
        """Accept no more, close what is idle, let answers be finished within `grace` seconds."""
        for server in self._servers:
            server.close()
        for connection in self._connections():
            connection.shutdown()
        try:
            async with asyncio.timeout(grace):
                while self._state.connections:
                    self._lost.clear()
                    await self._lost.wait()
        except TimeoutError:
            for connection in self._connections():
                connection.transport.abort()
        if self._sweeping:
            self._sweeping.cancel()

    def _connection(self) -> Connection:
        return Connection(self._config, self._state, self._limits, self._lost.set)

    def _connections(self) -> list[Connection]:
        return cast("list[Connection]", list(self._state.connections))

    async def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
            for connection in self._connections():
                try:
                    connection.sweep(loop.time())
                except Exception:  # noqa: BLE001 - one connection must not be the end of all
                    _log.exception("sweep")
                    connection.transport.abort()
            await asyncio.sleep(min(_LONGEST_PAUSE, self._limits.request_seconds))
