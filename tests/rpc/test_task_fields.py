"""Every field of Task that the contract calls writable is stored, masked, cleared and compared as such.

The tests read the fields and their `field_behavior` from the descriptor. A field that is added to the proto and not to
the service fails here; a field of a type that is new here needs a line in `value_of`.
"""

from typing import Any
from uuid import uuid4

import pytest
from google.api.field_behavior_pb2 import OPTIONAL, OUTPUT_ONLY, REQUIRED, field_behavior
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from service.model import WRITABLE_FIELDS
from service.tasks.validation import OUTPUT_ONLY_FIELDS
from tests.running import Api, refused

FIELDS = tasks_pb2.Task.DESCRIPTOR.fields_by_name
# The etag goes out with a task and comes back as the condition of a write; nobody writes it.
CONDITION = "etag"


def named(*behaviors: int) -> list[str]:
    """The fields of Task that are annotated with one of these behaviors."""
    return [
        name
        for name, field in FIELDS.items()
        if set(behaviors).intersection(field.GetOptions().Extensions[field_behavior])
    ]


WRITABLE = [name for name in named(REQUIRED, OPTIONAL) if name != CONDITION]
# An enum has no empty value that could be stored, so to clear it is refused, as it is for what is required.
CLEARABLE = [name for name in WRITABLE if name not in named(REQUIRED) and FIELDS[name].enum_type is None]
# A new task is incomplete, whatever else it is.
CHOSEN_AT_CREATION = [name for name in WRITABLE if name != "status"]


def value_of(field: FieldDescriptor, number: int) -> Any:
    """The first, second, third … of the values that a caller could write into a field."""
    if field.enum_type is not None:
        return 1 + number % (len(field.enum_type.values) - 1)
    if field.message_type is not None and field.message_type is Timestamp.DESCRIPTOR:
        return Timestamp(seconds=1_800_000_000 + number, nanos=1000)
    if field.type == field.TYPE_STRING:
        return f"{field.name} {number}"
    raise AssertionError(f"which values does {field.full_name} take?")


def filled(number: int, names: list[str] = WRITABLE, **more: Any) -> tasks_pb2.Task:
    """A task with a value in each of these fields, different for each number; the first has the status of a new one."""
    return tasks_pb2.Task(**{name: value_of(FIELDS[name], number) for name in names}, **more)


def writable_of(task: Message) -> dict[str, Any]:
    """The writable fields of a task by name; None for a message that is absent."""
    return {
        name: getattr(task, name) if not FIELDS[name].has_presence or task.HasField(name) else None for name in WRITABLE
    }


def create(api: Api, task: tasks_pb2.Task, request_id: str = "") -> tasks_pb2.Task:
    created: tasks_pb2.Task = api.call("CreateTask", tasks_pb2.CreateTaskRequest(task=task, request_id=request_id))
    return created


def update(api: Api, task: tasks_pb2.Task, *mask: str) -> tasks_pb2.Task:
    request = tasks_pb2.UpdateTaskRequest(task=task, update_mask=FieldMask(paths=mask))
    updated: tasks_pb2.Task = api.call("UpdateTask", request)
    return updated


def test_every_field_is_writable_or_output_only_as_the_contract_says() -> None:
    assert sorted(WRITABLE_FIELDS) == sorted(WRITABLE)
    assert sorted(OUTPUT_ONLY_FIELDS) == sorted([*named(OUTPUT_ONLY), CONDITION])
    assert sorted(FIELDS) == sorted([*WRITABLE_FIELDS, *OUTPUT_ONLY_FIELDS])


def test_a_create_stores_every_writable_field(api: Api) -> None:
    task = create(api, filled(0))
    assert writable_of(task) == writable_of(filled(0))
    assert task == api.get(task.id)
    assert [task] == list(api.list().tasks)


def test_an_update_stores_every_writable_field(api: Api) -> None:
    task = create(api, filled(0))
    changed = update(api, filled(1, id=task.id), *WRITABLE)
    assert writable_of(changed) == writable_of(filled(1))
    assert changed == api.get(task.id)


@pytest.mark.parametrize("name", WRITABLE)
@pytest.mark.parametrize("masked", [True, False])
def test_an_update_of_one_field_leaves_the_others(api: Api, name: str, masked: bool) -> None:
    task = create(api, filled(0))
    change = filled(1, id=task.id) if masked else filled(1, [name], id=task.id)
    changed = update(api, change, *([name] if masked else []))
    assert writable_of(changed) == {**writable_of(task), name: writable_of(filled(1))[name]}
    assert changed == api.get(task.id)
    assert changed.etag != task.etag


@pytest.mark.parametrize("name", WRITABLE)
def test_an_update_to_the_same_value_changes_nothing(api: Api, name: str) -> None:
    task = create(api, filled(0))
    assert task == update(api, filled(0, id=task.id), name)
    assert task == api.get(task.id)


@pytest.mark.parametrize("name", CLEARABLE)
def test_an_update_clears_an_optional_field(api: Api, name: str) -> None:
    task = create(api, filled(0))
    empty = tasks_pb2.Task(id=task.id)
    cleared = update(api, empty, name)
    assert writable_of(cleared) == {**writable_of(task), name: writable_of(empty)[name]}
    assert cleared == api.get(task.id)
    assert cleared == update(api, empty, name)  # empty already: nothing changes
    assert writable_of(update(api, filled(0, id=task.id), name)) == writable_of(task)


@pytest.mark.parametrize("name", sorted(set(WRITABLE) - set(CLEARABLE)))
def test_no_update_clears_another_field(api: Api, name: str) -> None:
    task = create(api, filled(0))
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        update(api, tasks_pb2.Task(id=task.id), name)
    assert refusal.fields == [f"task.{name}"]
    assert task == api.get(task.id)


def test_a_full_replacement_clears_every_optional_field(api: Api) -> None:
    task = create(api, filled(0))
    replaced = update(api, filled(1, named(REQUIRED), id=task.id), "*")
    empty = writable_of(tasks_pb2.Task())
    expected = {name: empty[name] if name in CLEARABLE else writable_of(task)[name] for name in WRITABLE}
    assert writable_of(replaced) == {**expected, **{name: writable_of(filled(1))[name] for name in named(REQUIRED)}}
    assert replaced == api.get(task.id)


def test_completing_and_reopening_leave_every_other_field(api: Api) -> None:
    task = create(api, filled(0))
    reopened = update(api, filled(0, ["status"], id=api.complete(task.id).id), "status")
    assert writable_of(reopened) == writable_of(task)


def test_an_equal_create_with_every_field_answers_the_first_task(api: Api) -> None:
    request_id = str(uuid4())
    assert create(api, filled(0), request_id) == create(api, filled(0), request_id)


@pytest.mark.parametrize("name", CHOSEN_AT_CREATION)
@pytest.mark.parametrize("emptied", [True, False])
def test_a_request_id_with_another_value_of_any_field_is_refused(api: Api, name: str, emptied: bool) -> None:
    request_id = str(uuid4())
    create(api, filled(0), request_id)
    other = filled(0)
    other.ClearField(name)  # type: ignore[arg-type]  # one of its fields
    if name in named(REQUIRED) or not emptied:
        other.MergeFrom(filled(1, [name]))
    with refused(StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED"):
        create(api, other, request_id)
