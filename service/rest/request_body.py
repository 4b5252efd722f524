"""The body of a request, read within limits of size and time."""

import asyncio
from collections.abc import Mapping

from grpc import StatusCode
from starlette.types import Receive

from service.rest.headers import require_json
from service.rest.responses import HttpError


class RequestBody:
    """The body that a request announces. All of it must arrive within `seconds`."""

    def __init__(self, values: Mapping[bytes, bytes], receive: Receive, max_bytes: int, seconds: float) -> None:
        self._values, self._receive = values, receive
        self._max_bytes, self._seconds = max_bytes, seconds
        self._length = int(values.get(b"content-length", 0))
        self.is_received = values.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in values
        self._ends = asyncio.get_running_loop().time() + seconds

    async def read(self, *, is_patch: bool) -> bytes:
        """Return the body. Raises HttpError if it is too long, too slow or not JSON."""
        if self.is_received:
            return b""
        require_json(self._values, is_patch=is_patch)
        body = bytearray()
        try:
            while not self.is_received and self._length <= self._max_bytes:
                body += await self._receive_piece()
                self._length = max(self._length, len(body))
        except TimeoutError:
            message = f"The request did not arrive within {self._seconds:g} s."
            raise HttpError(message, "REQUEST_TOO_SLOW", 408, StatusCode.DEADLINE_EXCEEDED) from None
        if self._length > self._max_bytes:
            message = f"The body is longer than {self._max_bytes} bytes, which is the most that this server takes."
            raise HttpError(message, "MESSAGE_TOO_LARGE", 413, StatusCode.RESOURCE_EXHAUSTED)
        return bytes(body)

    async def keeps_connection(self) -> bool:
        """Receive what is left of a small body. False if the connection has to be closed instead."""
        return self.is_received or (self._length <= self._max_bytes and await self.discard())

    async def discard(self) -> bool:
        """Receive what is left, and drop it. False if it does not arrive in time.

        A client with `expect` may leave out the body that nobody asked for (RFC 9110, 10.1.1).
        """
        try:
            while not self.is_received and b"expect" not in self._values:
                await self._receive_piece()
        except TimeoutError:
            return False
        return self.is_received

    async def _receive_piece(self) -> bytes:
        """Receive the next piece of the body. Raises TimeoutError."""
        async with asyncio.timeout_at(self._ends):
            message = await self._receive()
        if message["type"] == "http.disconnect":
            raise asyncio.CancelledError
        self.is_received = not message["more_body"]
        return bytes(message["body"])
