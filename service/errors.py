"""The errors of a request.

The first paragraph of a class's docstring is the message sent to the caller, with its placeholders filled in. The rest
is for maintainers. Private details (a driver's message, a traceback) travel as `__cause__` and go to the log only. The
table in `service/rpc/status.py` maps each class to a status code.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar


class RequestError(Exception):
    """The request failed."""

    reason: ClassVar[str]
    """Stable UPPER_SNAKE name of the failure (google.rpc.ErrorInfo.reason, AIP-193)."""

    sentence: ClassVar[str]
    """The public message, taken from the docstring."""

    def __init_subclass__(cls) -> None:
        cls.sentence = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ")

    metadata: Mapping[str, str]
    """The variable parts of the message, for programs (AIP-193)."""

    def __init__(self, **details: object) -> None:
        super().__init__(self.sentence.format(**details))
        self.metadata = {name: str(value) for name, value in details.items() if f"{{{name}}}" in self.sentence}


class CallerMissing(RequestError):
    """The call names no user: send the metadata key x-user-id exactly once."""

    reason = "CALLER_MISSING"


class CallerInvalid(RequestError):
    """The metadata key x-user-id must be given exactly once, with 1 to 255 printable ASCII characters, no spaces."""

    reason = "CALLER_INVALID"


class CallerUnknown(RequestError):
    """The calling user is not known to this service, which serves only users that were registered beforehand."""

    reason = "CALLER_UNKNOWN"


class TokenMissing(RequestError):
    """The call has no token: send the metadata key authorization once, as 'Bearer', a space and a JSON Web Token."""

    reason = "TOKEN_MISSING"


class TokenMalformed(RequestError):
    """The token cannot be used: {problem}.

    `problem` is a fixed phrase and never contains any part of the token.
    """

    reason = "TOKEN_MALFORMED"


class TokenTooLarge(RequestError):
    """The token is {size} bytes long; this server takes at most {limit}."""

    reason = "TOKEN_TOO_LARGE"


class TokenSignature(RequestError):
    """The token is not signed with a key that this server trusts: get a token from the issuer that it is set up for.

    An unknown key, another algorithm and a wrong signature get the same message.
    """

    reason = "TOKEN_SIGNATURE"


class TokenExpired(RequestError):
    """The token has expired: get a new one from its issuer."""

    reason = "TOKEN_EXPIRED"


class TokenNotYetValid(RequestError):
    """The token is not valid yet: wait, or compare the clocks of its issuer and of this server."""

    reason = "TOKEN_NOT_YET_VALID"


class TokenIssuer(RequestError):
    """The token is from another issuer (iss) than the one that this server is set up for."""

    reason = "TOKEN_ISSUER"


class TokenAudience(RequestError):
    """The token is not for this service: ask its issuer for one whose audience (aud) names it."""

    reason = "TOKEN_AUDIENCE"


class TokenSubject(RequestError):
    """The token's subject (sub), the calling user, must be 1 to 255 printable ASCII characters without spaces."""

    reason = "TOKEN_SUBJECT"


class KeysUnavailable(RequestError):
    """The keys that tokens are verified with could not be fetched from their issuer yet: try again soon."""

    reason = "KEYS_UNAVAILABLE"


class ScopeMissing(RequestError):
    """The token does not have the scope {scope}, which this method needs."""

    reason = "SCOPE_MISSING"


class PeerNotAllowed(RequestError):
    """The calling service's certificate has no name that this server takes calls from."""

    reason = "PEER_NOT_ALLOWED"


class MethodNotAllowed(RequestError):
    """This method may not be called.

    Raised for a method that the server has but the policy table lacks: the table fails closed.
    """

    reason = "METHOD_NOT_ALLOWED"


class MethodUnknown(RequestError):
    """This server has no method of that name: check the package, the service and the method."""

    reason = "METHOD_UNKNOWN"


class ServiceUnknown(RequestError):
    """This server has no service of that name: ask for taskwell.v1.TaskService, or for the empty name."""

    reason = "SERVICE_UNKNOWN"


@dataclass(frozen=True, slots=True)
class Violation:
    """One problem with one field: the path of the field in the request, and what to change."""

    field: str
    description: str


MAX_VIOLATIONS = 10
"""Most invalid fields that one error names; of the others it gives the number."""


class InvalidArgument(RequestError):
    """{summary}"""

    reason = "INVALID_FIELD"

    def __init__(self, *violations: Violation) -> None:
        self.violations = violations[:MAX_VIOLATIONS]
        more = [f"and {len(violations) - MAX_VIOLATIONS} more"] if len(violations) > MAX_VIOLATIONS else []
        summary = "; ".join([*(f"{each.field} {each.description}" for each in self.violations), *more])
        super().__init__(summary=f"{summary}.")
        self.metadata = {}  # the violations carry the details


class MessageMalformed(RequestError):
    """The request message could not be decoded: it is not a valid protobuf message of this method's request type."""

    reason = "MESSAGE_MALFORMED"


class MessageMissing(RequestError):
    """The call has no request message: send one message behind the headers, before the time limit of a call."""

    reason = "MESSAGE_MISSING"


class MessageTooLarge(RequestError):
    """The request message is {size} bytes long; this server takes at most {limit}."""

    reason = "MESSAGE_TOO_LARGE"


class MetadataTooLarge(RequestError):
    """The metadata of the call is {size} bytes long; this server takes at most {limit}."""

    reason = "METADATA_TOO_LARGE"


class TaskNotFound(RequestError):
    """There is no such task.

    A task that never existed, a deleted one and another user's task get the same message.
    """

    reason = "TASK_NOT_FOUND"


class RequestIdReused(RequestError):
    """This request_id was used before to create a task with other content: make a new UUID for each task."""

    reason = "REQUEST_ID_REUSED"


class EtagStale(RequestError):
    """The task has changed since this etag was read: get the task again and decide anew."""

    reason = "ETAG_STALE"


class Overloaded(RequestError):
    """The service is handling as many calls as it can: wait a moment and try again."""

    reason = "OVERLOADED"


class RateLimited(RequestError):
    """The calling user has made too many calls: wait {seconds:.3g} s and try again."""

    reason = "RATE_LIMITED"

    def __init__(self, *, seconds: float) -> None:
        self.seconds = seconds
        """Time until the bucket has a token for the next call (s)."""
        super().__init__(seconds=seconds)


class DatabaseUnavailable(RequestError):
    """The database cannot be reached or is busy: try again soon, with a request_id if the call creates a task."""

    reason = "DATABASE_UNAVAILABLE"


class ShuttingDown(RequestError):
    """This server is shutting down: try again, and another will answer."""

    reason = "SHUTTING_DOWN"


class DeadlineExceeded(RequestError):
    """The call's deadline passed before it was done."""

    reason = "DEADLINE_EXCEEDED"


class Internal(RequestError):
    """Something went wrong in the service; it was logged under the id {error_id}."""

    reason = "INTERNAL"


def excerpt(text: str) -> str:
    """Return at most 40 characters of what a caller sent, free of control characters."""
    return repr(text if len(text) <= 40 else text[:40] + "…")[1:-1]


def break_reference_cycles(*errors: BaseException | None) -> None:
    """Drop the frames of handled errors and of their contexts, so that they are freed at once.

    A frame refers to the call, and grpc.aio keeps the error in the call. Such cycles wait for the garbage collector,
    which stops the process for 50 ms to free those of a few thousand failed calls.
    """
    for error in errors:
        while error:
            context, error.__traceback__, error.__context__ = error.__context__, None, None
            error = context
