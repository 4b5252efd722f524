"""Every way in which an operation fails over HTTP: the status, the reason, and the sentence for it.

The codes of a method stand in its comment behind `Errors:`, those that any method may fail with in the comment of the
service; how an error leaves the service, in service/rpc/status.py. What the gateway refuses by itself is listed here,
and a test holds the list to the gateway's code.
"""

import re
from collections.abc import Callable, Mapping

from grpc import StatusCode

from service import errors
from service.rest.responses import HTTP_STATUSES
from service.rpc.status import CODES, RETRY_DELAYS
from tools.openapi.contract import Binding
from tools.openapi.schemas import COMMENTS
from tools.tables import sentence

_CODE = re.compile("|".join(rf"\b{code.name}\b" for code in StatusCode))

# The gateway decodes the body, so the service never gets one that cannot be decoded.
_NEVER = (errors.MessageMalformed, errors.MessageMissing)
RETRIED = {error.reason for error in (*RETRY_DELAYS, errors.RateLimited)}
"""The reasons whose responses have Retry-After."""


def _always(_: Binding) -> bool:
    return True


def _has_body(binding: Binding) -> bool:
    return bool(binding.body)


def _has_variables(binding: Binding) -> bool:
    return bool(binding.path_fields)


GATEWAY: dict[str, tuple[int, str, Callable[[Binding], bool]]] = {
    "BODY_MALFORMED": (400, "The body is not a JSON object in UTF-8.", _has_body),
    "BODY_UNEXPECTED": (400, "This method takes no body.", lambda binding: not binding.body),
    "HEADER_INVALID": (400, "A header is malformed, or a condition would not be heeded.", _always),
    "PATH_MALFORMED": (400, "The path is not percent-encoded UTF-8.", _has_variables),
    "QUERY_MALFORMED": (400, "The query is not percent-encoded UTF-8, or has too many parameters.", _always),
    "REQUEST_MALFORMED": (400, "The request has both content-length and transfer-encoding.", _always),
    "REQUEST_TOO_SLOW": (408, "The request did not arrive in time.", _always),
    "MEDIA_TYPE_UNKNOWN": (415, "The body is not JSON in UTF-8, or compressed.", _has_body),
    "HOST_UNKNOWN": (421, "The server is not known by the name that the request asks for.", _always),
    "HEADERS_TOO_LARGE": (431, "The path, the query and the headers are too large together.", _always),
}
"""The gateway's own errors: reason, status, sentence, and the operations that can return them."""

ELSEWHERE: dict[str, tuple[int, str]] = {
    "ROUTE_UNKNOWN": (404, "There is nothing at this path."),
    "METHOD_UNKNOWN": (405, "The path does not take this method; Allow says which it takes."),
}
"""The gateway's errors for requests without an operation."""


def refusals(binding: Binding) -> Mapping[int, Mapping[str, str]]:
    """The reasons of this operation's errors by HTTP status, each with its sentence."""
    service = COMMENTS[binding.method.containing_service.full_name]
    _, _, common = service.partition("Any method may fail with")
    _, _, own = COMMENTS[binding.method.full_name].partition("Errors:")
    codes = set(_CODE.findall(common + own))
    found: dict[int, dict[str, str]] = {}

    def add(status: int, reason: str, text: str) -> None:
        found.setdefault(status, {})[reason] = text

    for error, code in CODES.items():
        if code.name in codes and error not in _NEVER and error is not errors.ServiceUnknown:
            status = 413 if error is errors.MessageTooLarge else HTTP_STATUSES[code]
            add(status, error.reason, sentence(error))
            if error is errors.EtagStale:
                add(412, error.reason, sentence(error))
    for reason, (status, text, applies) in GATEWAY.items():
        if applies(binding):
            add(status, reason, text)
    return {status: dict(sorted(found[status].items())) for status in sorted(found)}
