"""The error that the gateway raises for a request that it refuses before a call is made."""

from collections.abc import Sequence

from grpc import StatusCode

Headers = list[tuple[bytes, bytes]]

CLOSE = (b"connection", b"close")


class HttpError(Exception):
    """The request is refused with this HTTP status. `code` and `reason` go into the body.

    The HTTP status can be more precise than the one that the code has elsewhere.
    """

    def __init__(
        self,
        message: str,
        reason: str,
        status: int = 400,
        code: StatusCode = StatusCode.INVALID_ARGUMENT,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.reason, self.status, self.code, self.headers = reason, status, code, headers
