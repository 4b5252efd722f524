"""The RPCs as the tests know them: one row for each method, and one line for each field of a request.

METHODS is written by hand, and tests compare it with the descriptor. Requests are made from the descriptor, so that
every suite calls a new method whose fields are known. A field of a new name needs a line in ATTEMPTS and one in
`Known.requests` of tests/rpc/test_bad_input.py; a required one also needs one in `well_formed`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from operator import attrgetter
from typing import Any
from urllib.parse import quote

from google.api.field_behavior_pb2 import REQUIRED, field_behavior
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from taskwell.v1 import tasks_pb2

SERVICE = tasks_pb2.DESCRIPTOR.services_by_name["TaskService"]
READS, REPEATABLE, UNKNOWN = (
    MethodOptions.NO_SIDE_EFFECTS,
    MethodOptions.IDEMPOTENT,
    MethodOptions.IDEMPOTENCY_UNKNOWN,
)


@dataclass(frozen=True)
class Method:
    """An RPC as the contract defines it."""

    idempotency: Any
    http: tuple[str, ...]
    """The HTTP bindings: method, path, and the field that is the body. Tests over REST use the first."""


METHODS: Mapping[str, Method] = {
    "CreateTask": Method(UNKNOWN, ("POST /v1/tasks task",)),
    "ListTasks": Method(READS, ("GET /v1/tasks",)),
    "GetTask": Method(READS, ("GET /v1/tasks/{id}",)),
    "UpdateTask": Method(REPEATABLE, ("PATCH /v1/tasks/{task.id} task", "PUT /v1/tasks/{task.id} task")),
    "DeleteTask": Method(REPEATABLE, ("DELETE /v1/tasks/{id}",)),
    "CompleteTask": Method(REPEATABLE, ("POST /v1/tasks/{id}:complete", "PATCH /v1/tasks/{id}/complete")),
}


def request_type(method: str) -> Descriptor:
    return SERVICE.methods_by_name[method].input_type


def response_type(method: str) -> type[Message]:
    return GetMessageClass(SERVICE.methods_by_name[method].output_type)


def names_a_task(method: str) -> bool:
    """True for a method whose request holds the id of a task that must exist."""
    return any("{id}" in binding or "{task.id}" in binding for binding in METHODS[method].http)


def well_formed(method: str, task_id: str) -> Message:
    """A valid request: what is required is there, and a task that is missing may be deleted."""
    values: dict[str, Any] = {
        "id": task_id,
        "task": tasks_pb2.Task(id=task_id, title="Buy oat milk"),
        "allow_missing": True,
    }
    message = request_type(method)
    names = {field.name for field in message.fields if _is_required(field)} | {"allow_missing"}
    given = {name: values[name] for name in names & set(message.fields_by_name)}
    return GetMessageClass(message)(**given)


def _is_required(field: FieldDescriptor) -> bool:
    return REQUIRED in field.GetOptions().Extensions[field_behavior]


@dataclass(frozen=True)
class Target:
    """Another user's task, as far as an attacker may know it."""

    task: tasks_pb2.Task
    request_id: str = ""
    page_token: str = ""

    @property
    def etags(self) -> Sequence[str]:
        return "", self.task.etag, "stale"

    def changes(self) -> Sequence[tasks_pb2.Task]:
        """The task with other values, or with its own, under each of the etags."""
        contents: Sequence[dict[str, Any]] = (
            {"title": "Theirs"},
            {"title": self.task.title},  # would change nothing
            {"title": "Theirs", "description": "Theirs", "status": tasks_pb2.TASK_STATUS_COMPLETE},
        )
        return [tasks_pb2.Task(id=self.task.id, etag=etag, **each) for each in contents for etag in self.etags]


ATTEMPTS: Mapping[str, Callable[[Target], Sequence[Any]]] = {
    "id": lambda target: (target.task.id, target.task.id.upper()),
    "task": Target.changes,
    "etag": lambda target: target.etags,
    "request_id": lambda target: (target.request_id,),
    "page_token": lambda target: ("", target.page_token),
    "update_mask": lambda _: [FieldMask(paths=paths) for paths in ([], ["title"], ["*"], ["id"])],
    "allow_missing": lambda _: (False, True),
    "status": lambda _: (0, tasks_pb2.TASK_STATUS_INCOMPLETE),
    "order_by": lambda _: ("", "create_time"),
    "page_size": lambda _: (0,),
}
"""By the name of a request's field, the values with which it can reach another user's task."""


def attempts(method: str, target: Target) -> Sequence[Message]:
    """Every combination of those values as a request of this method. Fails for a field that is not in the table."""
    message = request_type(method)
    missing = set(message.fields_by_name) - set(ATTEMPTS)
    assert not missing, f"which values of {missing} could reach another user's task? Add them to ATTEMPTS"
    values = [ATTEMPTS[field.name](target) for field in message.fields]
    names = [field.name for field in message.fields]
    return [GetMessageClass(message)(**dict(zip(names, each, strict=True))) for each in product(*values)]


def as_http(method: str, request: Message) -> tuple[str, str, dict[str, str], Any]:
    """The HTTP method, path, query and JSON body of a call, by the first binding in METHODS and not by the proto's.

    Some names in the query are in lowerCamelCase and some as in the proto: both are allowed.
    """
    verb, template, *rest = METHODS[method].http[0].split()
    paths = re.findall(r"\{([a-z_.]+)\}", template)
    path = template
    for name in paths:
        path = path.replace(f"{{{name}}}", quote(attrgetter(name)(request), safe=""))
    query = {}
    for field, value in request.ListFields():
        if field.name in (*rest, *paths):
            continue
        name = field.name if field.name in {"order_by", "update_mask"} else field.json_name
        if text := _query_text(value):
            query[name] = text
    body = json_format.MessageToDict(getattr(request, rest[0])) if rest else None
    return verb, path, query, body


def _query_text(value: Any) -> str:
    if isinstance(value, FieldMask):
        return ",".join(value.paths)
    return str(value).lower() if isinstance(value, bool) else str(value)
