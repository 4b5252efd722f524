"""The examples of the document, with which the documentation page fills its forms."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from google.protobuf.json_format import MessageToDict, Parse
from google.protobuf.message import Message
from taskwell.v1 import tasks_pb2

JsonObject: TypeAlias = dict[str, Any]

_TASK = tasks_pb2.Task()
Parse(
    """{
      "id": "01a1fd9a-2d17-73ac-9e00-4a78b57254ae",
      "title": "Buy milk",
      "description": "Two litres",
      "status": "TASK_STATUS_INCOMPLETE",
      "createTime": "2026-11-21T10:15:02.167476Z",
      "updateTime": "2026-11-21T10:15:02.167476Z",
      "etag": "1"
    }""",
    _TASK,
)
_DONE = tasks_pb2.Task()
_DONE.CopyFrom(_TASK)
_DONE.status = tasks_pb2.TASK_STATUS_COMPLETE
_DONE.update_time.FromJsonString("2026-11-21T11:00:00.373021Z")
_DONE.complete_time.CopyFrom(_DONE.update_time)
_DONE.etag = "2"

ANSWERS: Mapping[str, Message] = {
    "taskwell.v1.Task": _TASK,
    "CompleteTask": _DONE,
    "CompleteTaskPatch": _DONE,
    "taskwell.v1.ListTasksResponse": tasks_pb2.ListTasksResponse(
        tasks=[_TASK],
        next_page_token="AAZEHGmkZHQBof2aLRdzrJ4ASni1clSu0G4xk2Vf8MM",  # noqa: S106  # opens nothing
    ),
}
"""By operation, or by response message."""

BODIES: Mapping[str, Mapping[str, JsonObject]] = {
    "CreateTask": {"A task": {"title": "Buy milk", "description": "Two litres"}},
    "UpdateTask": {
        "Another title": {"title": "Buy oat milk"},
        "No description": {"description": ""},
        "Reopened": {"status": "TASK_STATUS_INCOMPLETE"},
    },
    "UpdateTaskPut": {"All of it": {"title": "Buy oat milk", "description": "Three litres"}},
}
"""By operation, each with a name. The first one fills the form."""


def as_json(message: Message) -> JsonObject:
    """A message as a response of the service has it."""
    printed: JsonObject = MessageToDict(message, always_print_fields_with_no_presence=True)
    for detail in printed.get("details", ()):
        if "metadata" in detail:
            detail["metadata"] = dict(sorted(detail["metadata"].items()))  # maps have no order of their own
    return printed
