"""Status codes: one table from errors to codes, and the google.rpc.Status with the details (AIP-193)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc import StatusCode
from grpc_status import rpc_status

from service import errors
from service.call_record import REQUEST_ID_KEY
from service.error_status import new_status
from service.errors import InvalidArgument, RateLimited, RequestError

CODES: Mapping[type[RequestError], StatusCode] = MappingProxyType(
    {
        errors.CallerMissing: StatusCode.UNAUTHENTICATED,
        errors.CallerInvalid: StatusCode.UNAUTHENTICATED,
        errors.TokenMissing: StatusCode.UNAUTHENTICATED,
        errors.TokenMalformed: StatusCode.UNAUTHENTICATED,
        errors.TokenTooLarge: StatusCode.UNAUTHENTICATED,
        errors.TokenSignature: StatusCode.UNAUTHENTICATED,
        errors.TokenExpired: StatusCode.UNAUTHENTICATED,
        errors.TokenNotYetValid: StatusCode.UNAUTHENTICATED,
        errors.TokenIssuer: StatusCode.UNAUTHENTICATED,
        errors.TokenAudience: StatusCode.UNAUTHENTICATED,
        errors.TokenSubject: StatusCode.UNAUTHENTICATED,
        errors.ScopeMissing: StatusCode.PERMISSION_DENIED,
        errors.CallerUnknown: StatusCode.PERMISSION_DENIED,
        errors.PeerNotAllowed: StatusCode.PERMISSION_DENIED,
        errors.MethodNotAllowed: StatusCode.PERMISSION_DENIED,
        errors.MethodUnknown: StatusCode.UNIMPLEMENTED,
        errors.ServiceUnknown: StatusCode.NOT_FOUND,
        errors.InvalidArgument: StatusCode.INVALID_ARGUMENT,
        errors.MessageMalformed: StatusCode.INVALID_ARGUMENT,
        errors.MessageMissing: StatusCode.INVALID_ARGUMENT,
        errors.MessageTooLarge: StatusCode.RESOURCE_EXHAUSTED,
        errors.MetadataTooLarge: StatusCode.RESOURCE_EXHAUSTED,
        errors.TaskNotFound: StatusCode.NOT_FOUND,
        errors.RequestIdReused: StatusCode.ALREADY_EXISTS,
        errors.EtagStale: StatusCode.ABORTED,
        errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
        errors.RateLimited: StatusCode.RESOURCE_EXHAUSTED,
        errors.DatabaseUnavailable: StatusCode.UNAVAILABLE,
        errors.KeysUnavailable: StatusCode.UNAVAILABLE,
        errors.ShuttingDown: StatusCode.UNAVAILABLE,
        errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
        errors.Internal: StatusCode.INTERNAL,
    }
)

# Errors after which the same call may succeed, and the delay before a retry (ms).
RETRY_DELAYS = MappingProxyType(
    {
        errors.Overloaded: 100,
        errors.ShuttingDown: 100,
        errors.DatabaseUnavailable: 1000,
        errors.KeysUnavailable: 1000,
    }
)


def status_of(error: RequestError) -> status_pb2.Status:
    """Return the status that reports this error to the caller."""
    delay = _retry_delay(error)
    retry = Duration(nanos=delay % 1000 * 10**6, seconds=delay // 1000) if delay else None
    return new_status(
        CODES[type(error)],
        str(error),
        error.reason,
        metadata=error.metadata,
        violations=error.violations if isinstance(error, InvalidArgument) else (),
        details=[error_details_pb2.RetryInfo(retry_delay=retry)] if retry else (),
    )


_unvarying: dict[type[RequestError], grpc.Status] = {}


@dataclass(frozen=True, slots=True)
class _Status(grpc.Status):
    code: StatusCode
    details: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def grpc_status_of(error: RequestError, request_id: str) -> grpc.Status:
    """Return the same status as gRPC takes it, with the id of the call.

    Where nothing else in it varies it is made once: a server under overload sends thousands of the same a second.
    """
    if error.metadata or isinstance(error, InvalidArgument | RateLimited):
        status = rpc_status.to_status(status_of(error))
    elif (known := _unvarying.get(type(error))) is None:
        status = _unvarying[type(error)] = rpc_status.to_status(status_of(error))
    else:
        status = known
    trailing = (*(status.trailing_metadata or ()), (REQUEST_ID_KEY, request_id))
    return _Status(status.code, status.details, trailing)


def _retry_delay(error: RequestError) -> int | None:
    if isinstance(error, RateLimited):
        return math.ceil(error.seconds * 1000)
    return RETRY_DELAYS.get(type(error))
