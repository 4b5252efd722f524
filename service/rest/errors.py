"""How a request fails over HTTP: which status and headers, and google.rpc.Status as the body, whoever refused it."""

from types import MappingProxyType
from typing import NamedTuple

from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode
from grpc.aio import AioRpcError

from service.rest.messages import printed
from service.rest.refusals import Headers, Refusal

DOMAIN = "taskwell.v1"
# What one user was answered is nobody else's, and old as soon as it is read: a cache asks again each time, by the ETag.
_ALWAYS = ((b"cache-control", b"private, no-cache"), (b"x-content-type-options", b"nosniff"))
USUAL = ((b"content-type", b"application/json"), *_ALWAYS)

# As grpc-gateway has it, and google/rpc/code.proto.
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


class Answer(NamedTuple):
    """What is sent to the client."""

    status: int
    headers: Headers
    body: bytes


def of_refusal(refusal: Refusal) -> Answer:
    """What the door itself has to say."""
    code: int = refusal.code.value[0]
    status = Status(code=code, message=str(refusal))
    status.details.add().Pack(ErrorInfo(reason=refusal.reason, domain=DOMAIN))
    wrong = [BadRequest.FieldViolation(field=each.field, description=each.description) for each in refusal.violations]
    if wrong:
        status.details.add().Pack(BadRequest(field_violations=wrong))
    return Answer(refusal.http, [*USUAL, *refusal.headers], printed(status))


def of_call(error: AioRpcError, challenge: bytes, *, on_condition: bool) -> Answer:
    """What a call came to nothing with. `challenge` says how to name the caller; `on_condition`: a header set one."""
    code, headers = error.code(), [*USUAL]
    status = Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info, retry = ErrorInfo(), RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        if detail.Unpack(retry):
            headers.append((b"retry-after", b"%d" % (retry.retry_delay.seconds + bool(retry.retry_delay.nanos))))
    http = HTTP_STATUSES[code]
    if code is StatusCode.UNAUTHENTICATED:
        # RFC 6750, 3.1: nothing more is said to who came without a token.
        is_useless = info.reason.startswith("TOKEN_") and info.reason != "TOKEN_MISSING"
        headers.append((b"www-authenticate", challenge + (b', error="invalid_token"' if is_useless else b"")))
    elif info.reason == "SCOPE_MISSING":
        lacks = f', error="insufficient_scope", scope="{info.metadata["scope"]}"'
        headers.append((b"www-authenticate", challenge + lacks.encode()))
    elif code is StatusCode.ABORTED and on_condition:
        http = 412
    elif info.reason == "MESSAGE_TOO_LARGE":
        http = 413
    return Answer(http, headers, printed(status))
