"""How calls are answered over HTTP: the statuses of each operation, with the reasons that each may have.

What a method may answer stands in its comment behind `Errors:`, what any method may answer in the comment of the
service; how an error leaves the service, in service/rpc/status.py.
"""

import re
from collections.abc import Mapping, Sequence

from google.protobuf.descriptor import Descriptor
from grpc import StatusCode

from service import errors, rules
from service.errors import InvalidArgument, RequestError
from service.rpc.status import CODES, RETRY_DELAYS, status_of
from tools.openapi.contract import Binding, Schema
from tools.openapi.examples import ANSWERS, as_json
from tools.openapi.schemas import COMMENTS, answered_value, reference
from tools.tables import sentence

HTTP_STATUSES = {
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.UNAUTHENTICATED: 401,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.ABORTED: 409,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.INTERNAL: 500,
    StatusCode.UNAVAILABLE: 503,
}

# What each status means to whoever gets it; the reasons follow.
_MEANINGS: Mapping[int, str] = {
    304: "The task still has the ETag that `If-None-Match` gave.",
    400: "Something in the request is wrong; the message says what to change.",
    401: "Nobody is calling, or the credential does not verify.",
    403: "This caller may not do this.",
    404: "There is no such task of this caller.",
    409: "The task, or the request id, is not what the request takes it for.",
    412: "The task no longer has the ETag that `If-Match` gave.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    429: "Too many calls: by this user, or by all.",
    500: "A fault of the service.",
    503: "The service cannot do this now, and soon can.",
    504: "The deadline passed before the call was done.",
}

# A typical one for each status, its blanks filled in.
_EXAMPLES: Mapping[int, Sequence[RequestError]] = {
    400: [InvalidArgument(*rules.title("task.title", ""))],
    401: [errors.CallerMissing(), errors.TokenMissing()],
    403: [errors.CallerUnknown(), errors.ScopeMissing(scope="tasks.write")],
    404: [errors.TaskNotFound()],
    409: [errors.EtagStale(), errors.RequestIdReused()],
    412: [errors.EtagStale()],
    413: [errors.MessageTooLarge(size=70_000, limit=65_536)],
    429: [errors.Overloaded(), errors.RateLimited(seconds=2.5)],
    500: [errors.Internal(error_id="5d0b1a6e-7e5c-4f0b-9a37-0c8c6a3f4e21")],
    503: [errors.DatabaseUnavailable()],
    504: [errors.DeadlineExceeded()],
}

_CODE = re.compile("|".join(rf"\b{code.name}\b" for code in StatusCode))


def refusals(binding: Binding) -> Mapping[int, list[type[RequestError]]]:
    """Every error that may answer this operation, by its HTTP status."""
    service = COMMENTS[binding.method.containing_service.full_name]
    _, _, common = service.partition("Any method may answer")
    _, _, own = COMMENTS[binding.method.full_name].partition("Errors:")
    codes = set(_CODE.findall(common + own))
    found: dict[int, list[type[RequestError]]] = {}
    for error, code in CODES.items():
        if code.name in codes:
            found.setdefault(HTTP_STATUSES[code], []).append(error)
    return found


def responses(binding: Binding) -> Schema:
    """The answers of an operation, by status."""
    etag = has_etag(binding.method.output_type)
    headers = {"ETag": {"$ref": "#/components/headers/ETag"}} if etag else {}
    answers: Schema = {"200": _success(binding) | ({"headers": headers} if headers else {})}
    if binding.verb == "get" and etag:
        answers["304"] = {"description": _MEANINGS[304], "headers": headers}
    by_status = refusals(binding)
    if errors.EtagStale in by_status.get(409, []):
        by_status = {**by_status, 412: [errors.EtagStale]}
    for status, found in sorted(by_status.items()):
        answers[str(status)] = _refusal(status, found)
    return answers


def has_etag(message: Descriptor) -> bool:
    """Whether a message has an ETag of its own, which HTTP has a header for."""
    return "etag" in message.fields_by_name


def _success(binding: Binding) -> Schema:
    message = binding.method.output_type
    content: Schema = {"schema": answered_value(message)}
    if example := ANSWERS.get(binding.operation_id) or ANSWERS.get(message.full_name):
        content["example"] = as_json(example)
    return {"description": COMMENTS.get(message.full_name, "Nothing."), "content": {"application/json": content}}


def _refusal(status: int, found: Sequence[type[RequestError]]) -> Schema:
    reasons = "\n".join(
        f"- `{error.reason}`: {sentence(error)}" for error in sorted(found, key=lambda each: each.reason)
    )
    examples = {
        error.reason: {"summary": error.reason, "value": as_json(status_of(error))}
        for error in _EXAMPLES.get(status, ())
        if type(error) in found
    }
    headers = {}
    if status == 401:
        headers["WWW-Authenticate"] = {"$ref": "#/components/headers/WWW-Authenticate"}
    if any(error in RETRY_DELAYS or error is errors.RateLimited for error in found):
        headers["Retry-After"] = {"$ref": "#/components/headers/Retry-After"}
    return {
        "description": f"{_MEANINGS[status]}\n\n{reasons}",
        **({"headers": headers} if headers else {}),
        "content": {
            "application/json": {"schema": reference("Status"), **({"examples": examples} if examples else {})}
        },
    }
