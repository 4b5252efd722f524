"""HTTP responses: messages in JSON; the status and headers of every error, with google.rpc.Status as the body."""

import json
from collections.abc import Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple, get_args

from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError

from service.error_status import new_status
from service.errors import InvalidArgument

Headers = list[tuple[bytes, bytes]]
CLOSE = (b"connection", b"close")
# A response belongs to one user and may be stale at once: caches must revalidate it, by its ETag.
_ALWAYS = ((b"cache-control", b"private, no-cache"), (b"x-content-type-options", b"nosniff"))
JSON_HEADERS = ((b"content-type", b"application/json"), *_ALWAYS)

# The mapping of google/rpc/code.proto, which grpc-gateway uses too.
_CODES = {
    400: ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"),
    401: ("UNAUTHENTICATED",),
    403: ("PERMISSION_DENIED",),
    404: ("NOT_FOUND",),
    409: ("ALREADY_EXISTS", "ABORTED"),
    429: ("RESOURCE_EXHAUSTED",),
    499: ("CANCELLED",),
    500: ("INTERNAL", "UNKNOWN", "DATA_LOSS"),
    501: ("UNIMPLEMENTED",),
    503: ("UNAVAILABLE",),
    504: ("DEADLINE_EXCEEDED",),
}
HTTP_STATUSES = MappingProxyType({StatusCode[code]: http for http, codes in _CODES.items() for code in codes})


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class Response(NamedTuple):
    """An HTTP response."""

    status: int
    headers: Headers
    body: bytes


Reason = Literal[
    "BODY_MALFORMED",
    "BODY_UNEXPECTED",
    "HEADERS_TOO_LARGE",
    "HEADER_INVALID",
    "HOST_UNKNOWN",
    "INTERNAL",
    "MEDIA_TYPE_UNKNOWN",
    "MESSAGE_TOO_LARGE",
    "METHOD_UNKNOWN",
    "PATH_MALFORMED",
    "QUERY_MALFORMED",
    "REQUEST_MALFORMED",
    "REQUEST_TOO_SLOW",
    "ROUTE_UNKNOWN",
    "SHUTTING_DOWN",
]
REASONS: tuple[Reason, ...] = get_args(Reason)
"""Every reason of an HttpError."""


class HttpError(Exception):
    """The request is refused with this HTTP status before a call is made. `code` and `reason` go into the body."""

    def __init__(
        self,
        message: str,
        reason: Reason,
        status: int = 400,
        code: StatusCode = StatusCode.INVALID_ARGUMENT,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.reason: Reason = reason
        self.status, self.code, self.headers = status, code, headers


def to_json(message: Message) -> bytes:
    """Write the message: camelCase, enums by name, fields with default values too."""
    return _encode(json_format.MessageToDict(message, always_print_fields_with_no_presence=True)).encode()


def response_to_http_error(error: HttpError | InvalidArgument) -> Response:
    """Return the response for a request that was refused before any call."""
    if isinstance(error, InvalidArgument):
        status = new_status(StatusCode.INVALID_ARGUMENT, str(error), error.reason, violations=error.violations)
        return Response(400, [*JSON_HEADERS], to_json(status))
    status = new_status(error.code, str(error), error.reason)
    return Response(error.status, [*JSON_HEADERS, *error.headers], to_json(status))


def response_to_rpc_error(error: AioRpcError, challenge: bytes, *, has_if_match: bool) -> Response:
    """Return the response for a failed call. `challenge` is the WWW-Authenticate of a 401."""
    code, headers = error.code(), [*JSON_HEADERS]
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(retry):
            headers.append((b"retry-after", b"%d" % (retry.retry_delay.seconds + bool(retry.retry_delay.nanos))))
    http = HTTP_STATUSES[code]
    if code is StatusCode.UNAUTHENTICATED:
        # RFC 6750, 3.1: a request without a token gets no error code.
        is_invalid_token = info.reason.startswith("TOKEN_") and info.reason != "TOKEN_MISSING"
        headers.append((b"www-authenticate", challenge + (b', error="invalid_token"' if is_invalid_token else b"")))
    elif info.reason == "SCOPE_MISSING":
        scope = f', error="insufficient_scope", scope="{info.metadata["scope"]}"'
        headers.append((b"www-authenticate", challenge + scope.encode()))
    elif code is StatusCode.ABORTED and has_if_match:
        http = 412
    elif info.reason == "MESSAGE_TOO_LARGE":
        http = 413
    return Response(http, headers, to_json(status))
