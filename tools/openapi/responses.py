"""The responses of each operation: statuses, and the reasons that each may have."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus

from google.protobuf.descriptor import Descriptor

from service import errors
from service.errors import InvalidArgument, RequestError
from service.rpc.status import status_of
from service.tasks import validation
from tools.openapi.contract import Binding, Schema
from tools.openapi.examples import ANSWERS, as_json
from tools.openapi.refusals import GATEWAY, RETRIED, refusals
from tools.openapi.schemas import COMMENTS, answered_value, reference

# The name of each status, and its meaning for the client; the reasons follow.
_MEANINGS: Mapping[int, tuple[str, str]] = {
    304: ("NotModified", "The task still has the ETag that `If-None-Match` gave."),
    400: ("BadRequest", "Something in the request is wrong; the message says what to change."),
    401: ("Unauthorized", "Nobody is calling, or the credential does not verify."),
    403: ("Forbidden", "This caller may not do this."),
    404: ("NotFound", "There is no such task of this caller."),
    408: ("RequestTimeout", "The request did not arrive in time."),
    409: ("Conflict", "The task, or the request id, is not what the request takes it for."),
    412: ("PreconditionFailed", "The task no longer has the ETag that `If-Match` gave."),
    413: ("ContentTooLarge", "The body is too large."),
    415: ("UnsupportedMediaType", "The body is not JSON."),
    421: ("MisdirectedRequest", "The request is meant for another server."),
    429: ("TooManyRequests", "Too many calls: by this user, or by all."),
    431: ("HeadersTooLarge", "The headers are too large."),
    500: ("InternalServer", "A fault of the service."),
    503: ("ServiceUnavailable", "The service cannot do this now, and soon can."),
    504: ("GatewayTimeout", "The deadline passed before the call was done."),
}

# Typical errors of each status, with their blanks filled in.
_EXAMPLES: Mapping[int, Sequence[RequestError]] = {
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


def responses(binding: Binding) -> Schema:
    """The responses of an operation, by status."""
    etag = has_etag(binding.method.output_type)
    headers = {"headers": {"ETag": {"$ref": "#/components/headers/ETag"}}} if etag else {}
    answers: Schema = {"200": _success(binding) | headers}
    if binding.verb == "get" and etag:
        answers["304"] = {"description": _MEANINGS[304][1], **headers}
    for status, reasons in refusals(binding).items():
        examples = _invalid(binding) if status == HTTPStatus.BAD_REQUEST else _EXAMPLES.get(status, ())
        answers[str(status)] = _refusal(status, reasons, examples)
    return answers


def health_responses(answers: Mapping[int, Sequence[str]]) -> Schema:
    """The responses of a health check, by status, with the words that each may have."""
    reasons: Schema = {"reasons": {"type": "array", "items": {"type": "string"}}}
    found: Schema = {
        str(status): {
            "description": "Yes." if status == HTTPStatus.OK else "No.",
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "properties": {"status": {"type": "string", "enum": [*words]}}
                        | ({} if status == HTTPStatus.OK else reasons),
                        "required": ["status"],
                    }
                }
            },
        }
        for status, words in answers.items()
    }
    status, text, _ = GATEWAY["HOST_UNKNOWN"]
    return found | {str(status): _refusal(status, {"HOST_UNKNOWN": text})}


def shared(paths: Schema) -> Schema:
    """Replace equal responses in these paths by references. Returns the responses by the names of the references."""
    every = [operation["responses"] for operations in paths.values() for operation in operations.values()]
    known: Schema = {}
    for answers in every:
        for status, answer in answers.items():
            alike = [other for other in every if other.get(status) == answer]
            if "$ref" not in answer and int(status) >= HTTPStatus.MULTIPLE_CHOICES and len(alike) > 1:
                name = _free_name(f"{_MEANINGS[int(status)][0]}Error", known)
                known[name] = answer
                for other in alike:
                    other[status] = {"$ref": f"#/components/responses/{name}"}
    return known


def has_etag(message: Descriptor) -> bool:
    """True if a message has an etag, which becomes the header ETag."""
    return "etag" in message.fields_by_name


def _free_name(name: str, known: Schema) -> str:
    taken = sum(each.rstrip("0123456789") == name for each in known)
    return f"{name}{taken + 1}" if taken else name


def _success(binding: Binding) -> Schema:
    message = binding.method.output_type
    content: Schema = {"schema": answered_value(message)}
    if example := ANSWERS.get(binding.operation_id) or ANSWERS.get(message.full_name):
        content["example"] = as_json(example)
    return {"description": COMMENTS.get(message.full_name, "Done."), "content": {"application/json": content}}


def _invalid(binding: Binding) -> Sequence[RequestError]:
    """A request with an invalid value for this operation."""
    if binding.body == "task":
        return [InvalidArgument(*validation.title("task.title", ""))]
    if binding.path_fields:
        return [InvalidArgument(*validation.task_id(path, "milk")) for path in binding.path_fields.values()]
    return [InvalidArgument(*validation.page_size("page_size", -1))] if binding.method.name == "ListTasks" else []


def _refusal(status: int, reasons: Mapping[str, str], typical: Sequence[RequestError] = ()) -> Schema:
    listed = "\n".join(f"- `{reason}`: {text}" for reason, text in reasons.items())
    content: Schema = {"schema": reference("Status")}
    examples = [error for error in typical if error.reason in reasons]
    if examples:
        content["examples"] = {error.reason: {"value": as_json(status_of(error))} for error in examples}
    headers = []
    if status == HTTPStatus.UNAUTHORIZED:
        headers.append("WWW-Authenticate")
    if RETRIED & set(reasons):
        headers.append("Retry-After")
    return {
        "description": f"{_MEANINGS[status][1]}\n\n{listed}",
        **({"headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers}} if headers else {}),
        "content": {"application/json": content},
    }
