"""The body of a request, read within limits of size and time."""

import asyncio
from collections.abc import Mapping

from grpc import StatusCode
from starlette.types import Receive

from service.rest.headers import require_json
from service.rest.http_error import HttpError


class RequestBody:
    """The body that a request announces. All of it must arrive within `seconds`."""

    def __init__(self, values: Mapping[bytes, bytes], receive: Receive, max_bytes: int, seconds: float) -> None:
        self._values, self._receive = values, receive
        self._max_bytes, self._seconds = max_bytes, seconds
        self._is_received = values.get(b"content-length", b"0") == b"0" and b"transfer-encoding" not in values
        self._ends = asyncio.get_running_loop().time() + seconds

    async def read(self, *, is_patch: bool) -> bytes:
        """Return the body. Raises HttpError if it is too long, too slow or not JSON."""
        if self._values.get(b"expect", b"100-continue").lower() != b"100-continue":  # RFC 9110, 10.1.1
            raise HttpError("The header expect may only be 100-continue.", "EXPECTATION_UNKNOWN", 417)
        if self._is_received:
            return b""
        require_json(self._values, is_patch=is_patch)
        is_refused = b"expect" in self._values and int(self._values.get(b"content-length", 0)) > self._max_bytes
        try:
            body = None if is_refused else await self._receive_all()
        except TimeoutError:
            message = f"The request did not arrive within {self._seconds:g} s."
            raise HttpError(message, "REQUEST_TOO_SLOW", 408, StatusCode.DEADLINE_EXCEEDED) from None
        if body is None:
            message = f"The body is longer than {self._max_bytes} bytes, which is the most that this server takes."
            raise HttpError(message, "MESSAGE_TOO_LARGE", 413, StatusCode.RESOURCE_EXHAUSTED)
        return body

    async def discard(self) -> bool:
        """Receive what is left, so that the connection can be kept. False if it has to be closed."""
        if self._is_received:
            return True
        if b"expect" in self._values:  # the client may leave out the body that nobody asked for (RFC 9110, 10.1.1)
            return False
        try:
            await self._receive_all()
        except TimeoutError:
            return False
        return True

    async def _receive_all(self) -> bytes | None:
        """Receive the rest of the body; None, and nothing kept, if it is too long. Raises TimeoutError."""
        pieces: list[bytes] = []
        size = 0
        async with asyncio.timeout_at(self._ends):
            while not self._is_received:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    raise asyncio.CancelledError
                size += len(message["body"])
                if size <= self._max_bytes:
                    pieces.append(message["body"])
                self._is_received = not message["more_body"]
        return b"".join(pieces) if size <= self._max_bytes else None
