"""Builds google.rpc.Status, the body of every error over gRPC and REST (AIP-193)."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from service.errors import Violation

DOMAIN = "taskwell.v1"
_NOTHING: Mapping[str, str] = MappingProxyType({})


def new_status(
    code: StatusCode,
    message: str,
    reason: str,
    *,
    metadata: Mapping[str, str] = _NOTHING,
    violations: Iterable[Violation] = (),
    details: Iterable[Message] = (),
) -> Status:
    """Return a status with an ErrorInfo, a BadRequest if there are violations, and the details."""
    number: int = code.value[0]
    status = Status(code=number, message=message)
    status.details.add().Pack(ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata))
    fields = [BadRequest.FieldViolation(field=each.field, description=each.description) for each in violations]
    if fields:
        status.details.add().Pack(BadRequest(field_violations=fields))
    for detail in details:
        status.details.add().Pack(detail)
    return status
