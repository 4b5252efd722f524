"""Connections of the HTTP server, with the limits that uvicorn lacks: silent clients, slow heads and slow readers."""

import asyncio
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

MAX_UNREAD_BYTES = 32 * 2**20
"""Most bytes of responses that clients have not taken yet; beyond, the connection that has waited longest is closed."""

# Responses that leave less than this unsent (bytes) cost no more than an idle connection, and have its limit.
_LARGE = 16 * 2**10
# Bytes read at once: h11 parses all of them before another connection has its turn, in chunks of one byte for 10 ms.
_READ_BYTES = 16 * 2**10
# uvicorn closes idle connections, but waits until a client has taken its response; after this time more (s) we do not.
_CLOSE_SECONDS = 1.0


class Limits(NamedTuple):
    """Limits of the server's connections."""

    connections: int
    """Open at once; further ones are closed."""
    head_bytes: int
    """Buffered of a head that has not arrived completely."""
    head_seconds: float
    """For a head to arrive, from its first byte, or from the beginning of the connection."""
    idle_seconds: float
    """Between two requests on a connection."""
    response_seconds: float
    """For a client to take a response, besides the time that its size takes at `min_rate` (bytes/s)."""
    min_rate: int


class Connections:
    """The open connections of a server, and of them those with unread responses (bytes), the oldest first."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.open: set[Connection] = set()
        self.unread: dict[Connection, int] = {}
        self.buffer = memoryview(bytearray(_READ_BYTES))

    def make(self, make_protocol: Callable[..., asyncio.Protocol], **given: Any) -> "Connection":  # noqa: ANN401
        """Return a new connection around a protocol of uvicorn. Requests find it in their ASGI state."""
        connection = Connection(self)
        connection.protocol = make_protocol(**{**given, "app_state": {"connection": connection}})
        return connection

    async def close_overdue(self) -> None:
        """Close, once a second, the connections whose client takes too long."""
        while True:
            await asyncio.sleep(1)
            now = asyncio.get_running_loop().time()
            for connection in [*self.open]:
                if now > min(connection.request_by, connection.read_by):
                    connection.abort()


class Connection(asyncio.BufferedProtocol):
    """Reads in small pieces, passes them to uvicorn's protocol, and can be closed without waiting for the client."""

    def __init__(self, connections: Connections) -> None:
        self._all, self._limits = connections, connections.limits
        self._now = asyncio.get_running_loop().time
        self._request: asyncio.Task[Any] | None = None
        self._is_idle = False
        self.protocol: asyncio.Protocol | None = None
        self.request_by = self._now() + self._limits.head_seconds
        """Time by which the head of a request must be there; infinite during a request."""
        self.read_by = math.inf
        """Time by which the client must have taken a large response."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        if len(self._all.open) >= self._limits.connections:
            self.protocol = None
            transport.abort()
        if self.protocol:
            self._all.open.add(self)
            transport.set_write_buffer_limits(high=_LARGE)
            self.protocol.connection_made(transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._all.buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._is_idle:
            self._is_idle, self.request_by = False, self._now() + self._limits.head_seconds
        if self.protocol:
            self.protocol.data_received(bytes(self._all.buffer[:nbytes]))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Serve a request in the block, which has limits of its own. It is cancelled when the client disconnects."""
        self._request, self.request_by = asyncio.current_task(), math.inf
        try:
            yield
        finally:
            self._request, self._is_idle = None, True
            self.request_by = self._now() + math.ceil(self._limits.idle_seconds) + _CLOSE_SECONDS

    def pause_writing(self) -> None:
        """Limit the time for the client to take the response, and the size of all of them."""
        unread, unsent = self._all.unread, self._transport.get_write_buffer_size()
        self.read_by = self._now() + self._limits.response_seconds + unsent / self._limits.min_rate
        unread[self] = unsent
        while sum(unread.values()) > MAX_UNREAD_BYTES:
            next(iter(unread)).abort()
        if self.protocol:
            self.protocol.pause_writing()

    def resume_writing(self) -> None:
        self._all.unread.pop(self, None)
        self.read_by = math.inf
        if self.protocol:
            self.protocol.resume_writing()

    def abort(self) -> None:
        """Close the connection at once, and drop what is unsent."""
        self._all.unread.pop(self, None)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._all.open.discard(self)
        self._all.unread.pop(self, None)
        protocol, self.protocol = self.protocol, None
        if self._request:
            self._request.cancel()
        if protocol:
            # With the exception, uvicorn would keep its timer for idle connections, and the connection with it.
            protocol.connection_lost(None)
