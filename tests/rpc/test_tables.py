"""The table of errors, the policy table and the contract are complete."""

import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import grpc
import pytest
from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from taskwell.v1 import tasks_pb2

from service import errors
from service.errors import InvalidArgument, MethodNotAllowed, RateLimited, RequestError, ScopeMissing, Violation
from service.model import Caller, TaskStatus
from service.rpc import policy
from service.rpc.policy import POLICY, Access, with_channelz, with_reflection
from service.rpc.status import CODES, status_of
from tests.methods import METHODS, SERVICE, well_formed
from tests.rpc.given import ask_reflection
from tests.running import Api, refused, running_service, settings_for

# Errors


def error_classes() -> Iterator[type[RequestError]]:
    for value in vars(errors).values():
        if isinstance(value, type) and issubclass(value, RequestError) and value is not RequestError:
            yield value


ERRORS = sorted(error_classes(), key=lambda error: error.__name__)

# Those of the design's table, and the one with which every gRPC server answers a method that it does not have.
ALLOWED_CODES = {
    StatusCode.UNAUTHENTICATED,
    StatusCode.PERMISSION_DENIED,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.ABORTED,
    StatusCode.RESOURCE_EXHAUSTED,
    StatusCode.UNAVAILABLE,
    StatusCode.DEADLINE_EXCEEDED,
    StatusCode.INTERNAL,
    StatusCode.UNIMPLEMENTED,
}


def example(error: type[RequestError]) -> RequestError:
    if issubclass(error, InvalidArgument):
        return error(Violation("task.title", "is required"))
    if issubclass(error, RateLimited):
        return error(seconds=0.25)
    return error(size=70_000, limit=65_536, error_id="0192f0c1", problem="it is no JWT", scope="tasks.read")


def test_every_error_has_a_code_that_the_contract_allows() -> None:
    assert set(ERRORS) == set(CODES)
    assert set(CODES.values()) <= ALLOWED_CODES


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_says_a_sentence(error: type[RequestError]) -> None:
    sentence = str(example(error))
    assert re.fullmatch(r"[A-Za-z].*\.|[A-Za-z].*: [a-z].*\.", sentence), sentence
    assert not re.search(r"[{}\n]|  ", sentence), sentence


def test_every_reason_is_stable_upper_snake_and_of_one_error_only() -> None:
    reasons = [error.reason for error in ERRORS]
    assert len(set(reasons)) == len(reasons)
    for reason in reasons:
        assert re.fullmatch(r"[A-Z][A-Z0-9_]{0,61}[A-Z0-9]", reason)  # AIP-193


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_carries_its_details(error: type[RequestError]) -> None:
    status = status_of(example(error))
    kinds = [detail.type_url.rpartition(".")[2] for detail in status.details]
    info = error_details_pb2.ErrorInfo.FromString(status.details[kinds.index("ErrorInfo")].value)
    assert (status.code, status.message) == (CODES[error].value[0], str(example(error)))
    assert (info.domain, info.reason) == ("taskwell.v1", error.reason)
    assert ("BadRequest" in kinds) == (error is InvalidArgument)
    # Worth a retry as it is: what has to do with the server's state, and not with the request or the task's state.
    may_be_retried = CODES[error] is StatusCode.UNAVAILABLE or error in {errors.Overloaded, RateLimited}
    assert ("RetryInfo" in kinds) == may_be_retried


# Who may call what


def methods_of(descriptor: object, service: str) -> set[str]:
    methods = descriptor.services_by_name[service.rpartition(".")[2]].methods_by_name  # type: ignore[attr-defined]
    return {f"/{service}/{method}" for method in methods}


TASK_METHODS = methods_of(tasks_pb2.DESCRIPTOR, "taskwell.v1.TaskService")
READING_METHODS = {
    f"/taskwell.v1.TaskService/{method.name}"
    for method in tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].methods
    if method.GetOptions().idempotency_level == descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS
}
HEALTH_METHODS = methods_of(health_pb2.DESCRIPTOR, "grpc.health.v1.Health")
REFLECTION_METHODS = methods_of(reflection_pb2.DESCRIPTOR, "grpc.reflection.v1alpha.ServerReflection") | methods_of(
    reflection_pb2.DESCRIPTOR, "grpc.reflection.v1.ServerReflection"
)
CHANNELZ_METHODS = methods_of(channelz_pb2.DESCRIPTOR, "grpc.channelz.v1.Channelz")


@pytest.mark.parametrize("access", Access)
def test_the_policy_table_has_every_method_and_no_other(access: Access) -> None:
    assert with_channelz(with_reflection(POLICY, access)) == {
        **{method: Access.READ if method in READING_METHODS else Access.WRITE for method in TASK_METHODS},
        **dict.fromkeys(HEALTH_METHODS, Access.OPEN),
        **dict.fromkeys(REFLECTION_METHODS, access),
        **dict.fromkeys(CHANNELZ_METHODS, Access.CALLER),
    }


SCOPES = {Access.READ: "tasks.read", Access.WRITE: "tasks.write"}


@pytest.mark.parametrize("access", [Access.READ, Access.WRITE])
def test_a_token_with_scopes_may_do_what_they_name_and_nothing_else(access: Access) -> None:
    other = ({Access.READ, Access.WRITE} - {access}).pop()
    policy.require_scope(access, Caller("alice"), SCOPES)
    policy.require_scope(access, Caller("alice", frozenset(SCOPES.values())), SCOPES)
    policy.require_scope(access, Caller("alice", frozenset([SCOPES[access]])), SCOPES)
    for scopes in ([], [SCOPES[other]], [SCOPES[access].upper()], ["tasks"], [f"{SCOPES[access]}.all"]):
        with pytest.raises(ScopeMissing, match=SCOPES[access]):
            policy.require_scope(access, Caller("alice", frozenset(scopes)), SCOPES)


@pytest.mark.parametrize("access", [access for access in Access if access is not Access.CALLER])
def test_an_access_whose_scope_nobody_named_is_refused(access: Access) -> None:
    with pytest.raises(MethodNotAllowed):
        policy.require_scope(access, Caller("alice", frozenset(["tasks.read", "tasks.write"])), {})


@pytest.fixture
def without_policy(monkeypatch: pytest.MonkeyPatch, sqlite_url: str) -> Iterator[grpc.Channel]:
    """A channel to a service whose policy table has no method but ListTasks."""
    table = {name: access for name, access in policy.POLICY.items() if name.endswith("/ListTasks")}
    monkeypatch.setattr("service.server.app.POLICY", table)
    monkeypatch.setattr("service.server.app.with_reflection", lambda policy, _access: policy)
    with running_service(settings_for(sqlite_url)) as address, grpc.insecure_channel(address) as channel:
        yield channel


def test_a_method_that_the_policy_table_does_not_have_is_refused(without_policy: grpc.Channel) -> None:
    api = Api(without_policy)
    for method in set(METHODS) - {"ListTasks"}:
        with refused(StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED"):
            api.call(method, well_formed(method, "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"))
    health: Any = health_pb2_grpc.HealthStub(without_policy)
    with refused(StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED"):
        health.Check(health_pb2.HealthCheckRequest())
    with refused(StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED"):
        next(health.Watch(health_pb2.HealthCheckRequest()))
    with refused(StatusCode.PERMISSION_DENIED, "METHOD_NOT_ALLOWED"):
        ask_reflection(without_policy, "v1", user="alice", list_services="")
    assert tasks_pb2.ListTasksResponse() == api.list()


# The contract

BUNDLE = descriptor_pb2.FileDescriptorSet.FromString(files("taskwell.v1").joinpath("taskwell.protoset").read_bytes())
[FILE] = [file for file in BUNDLE.file if file.name == "taskwell/v1/tasks.proto"]


def things_to_comment() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every service, RPC, message, field, enum and enum value, and its path (descriptor.proto, SourceCodeInfo)."""
    for at, message in enumerate(FILE.message_type):
        assert not message.nested_type, "comments of nested messages are not looked for here"
        yield message.name, (4, at)
        for index, field in enumerate(message.field):
            yield f"{message.name}.{field.name}", (4, at, 2, index)
    for at, enum in enumerate(FILE.enum_type):
        yield enum.name, (5, at)
        for index, value in enumerate(enum.value):
            yield f"{enum.name}.{value.name}", (5, at, 2, index)
    for at, service in enumerate(FILE.service):
        yield service.name, (6, at)
        for index, method in enumerate(service.method):
            yield f"{service.name}.{method.name}", (6, at, 2, index)


def bindings(method: MethodDescriptor) -> tuple[str, ...]:
    """The HTTP method, path and body of each binding (google.api.http)."""
    rule = method.GetOptions().Extensions[annotations_pb2.http]
    rules = [rule, *rule.additional_bindings]
    verbs = [each.WhichOneof("pattern") for each in rules]
    return tuple(
        f"{verb.upper()} {getattr(each, verb)} {each.body}".strip() for each, verb in zip(rules, verbs, strict=True)
    )


def test_the_methods_are_those_that_the_tests_know_and_none_streams() -> None:
    assert set(METHODS) == set(SERVICE.methods_by_name)
    assert not any(method.client_streaming or method.server_streaming for method in SERVICE.methods)


def test_everything_in_the_bundled_contract_has_a_comment() -> None:
    commented = {tuple(each.path) for each in FILE.source_code_info.location if each.leading_comments.strip()}
    assert [name for name, path in things_to_comment() if path not in commented] == []


def test_the_bundled_contract_is_the_one_that_is_served() -> None:
    bare = descriptor_pb2.FileDescriptorProto()
    bare.CopyFrom(FILE)
    bare.ClearField("source_code_info")
    for field in (field for message in bare.message_type for field in message.field):
        field.ClearField("json_name")  # derived from the name, and left out of what is embedded
    served = descriptor_pb2.FileDescriptorProto()
    tasks_pb2.DESCRIPTOR.CopyToProto(served)
    assert bare == served


@pytest.mark.parametrize("method", tuple(SERVICE.methods), ids=lambda method: method.name)
def test_every_method_has_the_http_bindings_and_the_idempotency_that_the_tests_know(method: MethodDescriptor) -> None:
    known = METHODS[method.name]
    assert bindings(method) == known.http
    assert method.GetOptions().idempotency_level == known.idempotency


def test_every_field_that_a_caller_may_send_says_how_it_behaves() -> None:
    def behaviour(field: FieldDescriptor) -> list[int]:
        return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])

    sent = [
        message
        for message in tasks_pb2.DESCRIPTOR.message_types_by_name.values()
        if message.name != "ListTasksResponse"
    ]
    assert [field.full_name for message in sent for field in message.fields if not behaviour(field)] == []


def test_no_request_names_a_user() -> None:
    fields = {field.name for message in FILE.message_type for field in message.field}
    assert not {name for name in fields if "user" in name or "owner" in name}


def test_the_status_of_the_model_is_that_of_the_contract() -> None:
    assert {f"TASK_STATUS_{status.name}": status.value for status in TaskStatus} == dict(tasks_pb2.TaskStatus.items())


def test_the_types_of_methods_are_those_of_their_descriptors() -> None:
    services = (tasks_pb2, health_pb2, reflection_pb2, channelz_pb2)
    methods = [
        method for file in services for each in file.DESCRIPTOR.services_by_name.values() for method in each.methods
    ]
    types = {(False, False): "unary", (False, True): "server_stream", (True, True): "bidi_stream"}
    table = policy.grpc_types(with_channelz(with_reflection(POLICY, Access.OPEN)))
    for method in methods:
        full_name = f"/{method.containing_service.full_name}/{method.name}"
        assert table[full_name] == types[method.client_streaming, method.server_streaming]
