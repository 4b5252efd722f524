"""GetTask through a real server and the generated client."""

from uuid import UUID

import pytest
from grpc import StatusCode

from tests.rpc.given import MALFORMED_IDS
from tests.running import Api, refused


def test_a_task_is_read_as_the_last_write_answered_it(api: Api) -> None:
    task = api.create("Buy milk", "Two litres")
    assert task == api.get(task.id)
    task = api.update(task.id, title="Buy oat milk")
    assert task == api.get(task.id)
    task = api.complete(task.id)
    assert task == api.get(task.id)


def test_reading_changes_nothing(api: Api) -> None:
    task = api.create()
    assert [task] * 3 == [api.get(task.id) for _ in range(3)]


def test_the_task_asked_for_is_answered_and_no_other(api: Api) -> None:
    tasks = [api.create(f"Task {number}") for number in range(5)]
    assert tasks == [api.get(task.id) for task in tasks]


def test_an_id_in_upper_case_names_the_same_task(api: Api) -> None:
    task = api.create()
    assert task == api.get(task.id.upper())


@pytest.mark.parametrize("number", [0, 0x0192F0C12D3E7F4A8B5C6D7E8F901234, 2**128 - 1])
def test_a_task_that_never_was_is_not_found(api: Api, number: int) -> None:
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND") as refusal:
        api.get(str(UUID(int=number)))
    assert refusal.message == "There is no such task."


def test_a_deleted_task_is_not_found(api: Api) -> None:
    task = api.create()
    api.delete(task.id)
    with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
        api.get(task.id)


@pytest.mark.parametrize("task_id", MALFORMED_IDS)
def test_what_is_not_a_uuid_is_refused(api: Api, task_id: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.get(task_id)
    assert refusal.fields == ["id"]
    assert refusal.message.startswith("id ")
