"""Between the contract's messages and the model's values."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from taskwell.v1 import tasks_pb2

from service.model import Task, TaskDraft
from service.opaque import etag_of

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_draft(task: tasks_pb2.Task) -> TaskDraft:
    """The fields that a caller may write."""
    return TaskDraft(task.title, task.description, task.status)


def to_message(task: Task) -> tasks_pb2.Task:
    """A task as the caller sees it."""
    message = tasks_pb2.Task(
        id=task.id,
        title=task.title,
        description=task.description,
        status=tasks_pb2.TaskStatus.ValueType(task.status),
        create_time=_to_timestamp(task.created_at),
        update_time=_to_timestamp(task.updated_at),
        etag=etag_of(task.version),
    )
    if task.completed_at is not None:
        message.complete_time.CopyFrom(_to_timestamp(task.completed_at))
    return message


def _to_timestamp(moment: datetime) -> Timestamp:
    since = moment - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
