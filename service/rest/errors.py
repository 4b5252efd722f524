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
HTTP_STATUSES = MappingProxyType(
    {
        StatusCode.CANCELLED: 499,
        StatusCode.UNKNOWN: 500,
        StatusCode.INVALID_ARGUMENT: 400,
        StatusCode.DEADLINE_EXCEEDED: 504,
        StatusCode.NOT_FOUND: 404,
        StatusCode.ALREADY_EXISTS: 409,
        StatusCode.PERMISSION_DENIED: 403,
        StatusCode.UNAUTHENTICATED: 401,
        StatusCode.RESOURCE_EXHAUSTED: 429,
        StatusCode.FAILED_PRECONDITION: 400,
        StatusCode.ABORTED: 409,
        StatusCode.OUT_OF_RANGE: 400,
        StatusCode.UNIMPLEMENTED: 501,
        StatusCode.INTERNAL: 500,
        StatusCode.UNAVAILABLE: 503,
        StatusCode.DATA_LOSS: 500,
    }
)


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
        useless = (
            b', error="invalid_token"' if info.reason.startswith("TOKEN_") and info.reason != "TOKEN_MISSING" else b""
        )
        headers.append((b"www-authenticate", challenge + useless))
    elif info.reason == "SCOPE_MISSING":
        lacks = f', error="insufficient_scope", scope="{info.metadata["scope"]}"'
        headers.append((b"www-authenticate", challenge + lacks.encode()))
    elif code is StatusCode.ABORTED and on_condition:
        http = 412
    elif info.reason == "MESSAGE_TOO_LARGE":
        http = 413
    return Answer(http, headers, printed(status))
