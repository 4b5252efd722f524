"""Server reflection as grpcurl and its like use it, v1 and v1alpha, without naming a user."""

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from taskwell.v1 import tasks_pb2

from tests.methods import METHODS
from tests.rpc.given import ask_reflection

SERVICES = {
    "taskwell.v1.TaskService",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
NOT_FOUND, INVALID_ARGUMENT = 5, 3

pytestmark = pytest.mark.parametrize("version", ["v1", "v1alpha"])


def files_with(channel: grpc.Channel, version: str, symbol: str) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    """The file that has this symbol and what came with it, by name."""
    answer = ask_reflection(channel, version, file_containing_symbol=symbol)
    assert answer.WhichOneof("message_response") == "file_descriptor_response", answer
    files = map(descriptor_pb2.FileDescriptorProto.FromString, answer.file_descriptor_response.file_descriptor_proto)
    return {file.name: file for file in files}


@pytest.fixture
def channel(sqlite_channel: grpc.Channel) -> grpc.Channel:
    """Nothing here depends on the database."""
    return sqlite_channel


def test_every_service_is_listed(channel: grpc.Channel, version: str) -> None:
    answer = ask_reflection(channel, version, list_services="")
    assert {service.name for service in answer.list_services_response.service} == SERVICES


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_every_service_that_is_listed_can_be_described(channel: grpc.Channel, version: str, service: str) -> None:
    package, _, name = service.rpartition(".")
    files = files_with(channel, version, service).values()
    assert name in {each.name for file in files if file.package == package for each in file.service}


@pytest.mark.parametrize(
    "symbol",
    [
        *(f"taskwell.v1.TaskService.{method}" for method in METHODS),
        "taskwell.v1.Task",
        "taskwell.v1.Task.title",
        "taskwell.v1.TaskStatus",
        "taskwell.v1.TASK_STATUS_COMPLETE",
        "taskwell.v1.ListTasksResponse",
    ],
)
def test_every_name_of_the_contract_is_found(channel: grpc.Channel, version: str, symbol: str) -> None:
    assert "taskwell/v1/tasks.proto" in files_with(channel, version, symbol)


def test_the_contract_comes_with_its_comments(channel: grpc.Channel, version: str) -> None:
    file = files_with(channel, version, "taskwell.v1.TaskService")["taskwell/v1/tasks.proto"]
    comments = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    assert comments[6, 0].startswith(" Tasks of one user: create, list, get, update, delete and complete them.\n")


def test_a_client_can_be_made_of_what_is_answered(channel: grpc.Channel, version: str) -> None:
    pool = descriptor_pool.DescriptorPool()
    files = files_with(channel, version, "taskwell.v1.TaskService")

    def add(name: str) -> None:
        if name not in files:
            files.update(by_name(channel, version, name))
        for dependency in files[name].dependency:
            add(dependency)
        pool.Add(files[name])

    add("taskwell/v1/tasks.proto")
    task = message_factory.GetMessageClass(pool.FindMessageTypeByName("taskwell.v1.Task"))
    given = tasks_pb2.Task(title="Buy milk", status=tasks_pb2.TASK_STATUS_COMPLETE)
    assert str(given) == str(task.FromString(given.SerializeToString()))


def by_name(channel: grpc.Channel, version: str, name: str) -> dict[str, descriptor_pb2.FileDescriptorProto]:
    answer = ask_reflection(channel, version, file_by_filename=name)
    [serialized] = answer.file_descriptor_response.file_descriptor_proto
    return {name: descriptor_pb2.FileDescriptorProto.FromString(serialized)}


@pytest.mark.parametrize(
    "symbol", ["", "taskwell.v1", "taskwell.v1.TaskService.RenameTask", "x", "\0", "😀", "." * 999]
)
def test_an_unknown_name_is_answered_as_not_found(channel: grpc.Channel, version: str, symbol: str) -> None:
    answer = ask_reflection(channel, version, file_containing_symbol=symbol)
    assert answer.error_response.error_code == NOT_FOUND
    assert answer.original_request.file_containing_symbol == symbol


def test_an_unknown_file_is_answered_as_not_found(channel: grpc.Channel, version: str) -> None:
    answer = ask_reflection(channel, version, file_by_filename="taskwell/v2/tasks.proto")
    assert answer.error_response.error_code == NOT_FOUND


def test_an_empty_question_is_answered_as_invalid(channel: grpc.Channel, version: str) -> None:
    assert ask_reflection(channel, version).error_response.error_code == INVALID_ARGUMENT
