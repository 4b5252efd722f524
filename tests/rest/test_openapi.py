"""The OpenAPI document: valid, current, and as strict as the service is, no more and no less."""

import ast
import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import validate
from taskwell.v1 import tasks_pb2

import service.rest
import tools.openapi.__main__ as program
from service.rest.responses import HTTP_STATUSES
from service.rpc.status import CODES
from service.tasks import validation
from tests.rest.client import Client
from tests.running import new_user
from tools.openapi.contract import bindings, comments
from tools.openapi.refusals import ELSEWHERE, GATEWAY

DOCUMENT: dict[str, Any] = json.loads(program.FILE.read_text())
OPERATIONS = {operation["operationId"]: operation for path in DOCUMENT["paths"].values() for operation in path.values()}
UUID = "01a1fd9a-2d17-73ac-9e00-4a78b57254ae"


def resolved(value: Any) -> Any:
    """What a reference in the document refers to; what is none, as it is."""
    while isinstance(value, dict) and "$ref" in value:
        place, value = value["$ref"], DOCUMENT
        for name in place.removeprefix("#/").split("/"):
            value = value[name]
    return value


def body_schema(operation: str) -> dict[str, Any]:
    schema: dict[str, Any] = OPERATIONS[operation]["requestBody"]["content"]["application/json"]["schema"]
    return schema


def parameter_schema(operation: str, name: str) -> dict[str, Any]:
    [found] = [each for each in map(resolved, OPERATIONS[operation]["parameters"]) if each["name"] == name]
    schema: dict[str, Any] = resolved(found["schema"])
    return schema


def schemas(value: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every JSON schema of the document with its place. Examples are none."""
    if isinstance(value, dict):
        if "type" in value or "enum" in value or "oneOf" in value or "anyOf" in value:
            yield place, value
        for name, inner in value.items():
            if name not in {"example", "examples", "securitySchemes"}:
                yield from schemas(inner, f"{place}/{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from schemas(inner, f"{place}/{index}")


def is_valid(schema: dict[str, Any], value: Any) -> bool:
    validator = OAS31Validator({**schema, "components": DOCUMENT["components"]})
    return bool(validator.is_valid(value))


def test_it_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    validate(DOCUMENT)


def test_a_document_that_is_not_current_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "generated" / "openapi" / "taskwell.v1.json"
    monkeypatch.setattr(program, "FILE", kept)
    monkeypatch.setattr("sys.argv", ["openapi"])
    assert program.main() == 0
    monkeypatch.setattr("sys.argv", ["openapi", "--check"])
    assert program.main() == 0
    kept.write_text(kept.read_text().replace("255", "256", 1))
    assert program.main() == 1
    assert "run 'make generate'" in capsys.readouterr().out


def test_every_binding_is_an_operation() -> None:
    expected = {(each.verb, each.path) for each in bindings()}
    assert {("patch", "/v1/tasks/{id}"), ("put", "/v1/tasks/{id}"), ("post", "/v1/tasks/{id}:complete")} < expected
    found = {(verb, path) for path, operations in DOCUMENT["paths"].items() for verb in operations}
    assert found == expected | {("get", "/healthz"), ("get", "/readyz")}


def test_every_comment_of_the_proto_is_in_it() -> None:
    texts = "\n".join(strings(DOCUMENT))
    # A request message is no schema: its fields are parameters, or the body.
    expected = {name: text for name, text in comments().items() if not name.endswith("Request")}
    assert len(expected) > 30
    assert [name for name, text in expected.items() if text not in texts] == []


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def test_every_enum_value_is_in_it() -> None:
    assert tasks_pb2.TaskStatus.keys() == DOCUMENT["components"]["schemas"]["TaskStatus"]["enum"]


@given(st.text(max_size=3) | st.text("ab\0 \t\x85\u3000\ufeff\x1c", max_size=300).map(lambda text: text * 2))
def test_a_title_fits_the_document_exactly_if_it_fits_the_rules(title: str) -> None:
    fits = not [*validation.title("", title)]
    assert fits == is_valid(body_schema("CreateTask"), {"title": title})
    assert fits == is_valid(body_schema("UpdateTaskPut"), {"title": title})
    assert fits == is_valid(body_schema("UpdateTask"), {"title": title})


@pytest.mark.parametrize("length", [0, 1, validation.TITLE_MAX, validation.TITLE_MAX + 1])
def test_a_title_is_counted_in_code_points(length: int) -> None:
    assert (1 <= length <= validation.TITLE_MAX) == is_valid(body_schema("CreateTask"), {"title": "🧀" * length})


@pytest.mark.parametrize(
    "text", ["", "a" * validation.DESCRIPTION_MAX, "🧀" * (validation.DESCRIPTION_MAX + 1), "a\0b"]
)
def test_a_description_fits_the_document_exactly_if_it_fits_the_rules(text: str) -> None:
    fits = not [*validation.description("", text)]
    assert fits == is_valid(body_schema("CreateTask"), {"title": "Buy milk", "description": text})


@pytest.mark.parametrize("number", [-2147483649, -1, 0, 1, 1000, 1001, 2147483647, 2147483648])
def test_a_page_size_fits_the_document_exactly_if_it_is_taken(number: int) -> None:
    fits = number < 2**31 and not [*validation.page_size("", number)]
    assert fits == is_valid(parameter_schema("ListTasks", "pageSize"), number)


# Left out rather than empty: an enum with an empty name is a burden for generated code.
@pytest.mark.parametrize("order", ["create_time", "create_time desc", "create_time asc", "title", "createTime"])
def test_an_order_fits_the_document_exactly_if_it_is_taken(order: str) -> None:
    assert (not [*validation.order_by("", order)]) == is_valid(parameter_schema("ListTasks", "orderBy"), order)


@pytest.mark.parametrize("operation", ["CreateTask", "UpdateTask", "UpdateTaskPut"])
def test_what_the_message_does_not_have_is_refused(operation: str) -> None:
    assert is_valid(body_schema(operation), {"title": "Buy milk"})
    assert not is_valid(body_schema(operation), {"title": "Buy milk", "colour": "white"})


@pytest.mark.parametrize("operation", ["CreateTask", "UpdateTaskPut"])
def test_a_task_as_a_whole_needs_a_title(operation: str) -> None:
    assert not is_valid(body_schema(operation), {"description": "Two litres"})
    assert not is_valid(body_schema(operation), {"title": None})
    assert is_valid(body_schema("UpdateTask"), {"description": "Two litres"})


def test_a_new_task_is_incomplete_and_an_update_gives_a_status() -> None:
    given_statuses: list[Any] = [*tasks_pb2.TaskStatus.keys(), 0, 1, 2, 3, None, "LATER"]

    def offered(operation: str) -> list[Any]:
        return [each for each in given_statuses if is_valid(body_schema(operation), {"title": "a", "status": each})]

    unspecified, incomplete, complete = tasks_pb2.TaskStatus.keys()
    assert [unspecified, incomplete] == offered("CreateTask")
    assert [incomplete, complete] == offered("UpdateTask")
    assert [unspecified, incomplete, complete] == offered("UpdateTaskPut")


def test_every_value_has_one_type() -> None:
    """A value of several types becomes code that does not compile in several generators."""
    found = [*schemas(DOCUMENT)]
    assert len(found) > 80
    for place, schema in found:
        assert isinstance(schema.get("type", ""), str), place
        assert "anyOf" not in schema, place
        assert {type(each) for each in schema.get("enum", ())} <= {str}, place


def test_every_request_body_has_a_name() -> None:
    bodies = [each["requestBody"] for each in OPERATIONS.values() if "requestBody" in each]
    contents = [content for body in bodies for content in body["content"].values()]
    assert len(contents) == 4
    assert all([*content["schema"]] == ["$ref"] for content in contents)


def test_no_name_is_one_that_a_generator_makes_itself() -> None:
    """Names of components, without regard to case, and the types that generators name after an operation."""
    names = [name.lower() for kind in ("schemas", "responses") for name in DOCUMENT["components"][kind]]
    made = {f"{name}{end}".lower() for name in OPERATIONS for end in ("", "Request", "Response", "Params", "Error")}
    made |= {tag["name"].lower() + end for tag in DOCUMENT["tags"] for end in ("", "api")}
    assert len(names) == len({*names})
    assert made.isdisjoint(names)
    # openapi-python-client and others name the package after it.
    assert DOCUMENT["info"]["title"].lower() not in {"taskwell", "taskwell client"}


def test_fields_that_every_response_has_are_required(client: Client) -> None:
    headers = {"x-user-id": new_user(), "content-type": "application/json"}
    task = client.send("POST", "/v1/tasks", headers, body='{"title": "Buy milk"}').json
    done = client.send("PATCH", f"/v1/tasks/{task['id']}/complete", headers, body="{}").json
    schema = DOCUMENT["components"]["schemas"]["Task"]
    assert {*schema["required"]} == {*task} & {*done}
    assert {*schema["properties"]} == {*task} | {*done}


def test_every_answer_that_is_shown_fits_its_schema() -> None:
    shown = 0
    for operation in OPERATIONS.values():
        for answer in map(resolved, operation["responses"].values()):
            content = answer.get("content", {}).get("application/json", {})
            examples = [each["value"] for each in content.get("examples", {}).values()]
            for example in examples + ([content["example"]] if "example" in content else []):
                assert is_valid(content["schema"], example)
                shown += 1
    assert shown > 50


def test_every_body_that_is_shown_fits_its_schema() -> None:
    for name in ("CreateTask", "UpdateTask", "UpdateTaskPut"):
        examples = OPERATIONS[name]["requestBody"]["content"]["application/json"]["examples"]
        for example in examples.values():
            assert is_valid(body_schema(name), example["value"])


def test_errors_stand_at_the_status_that_the_gateway_answers_them_with() -> None:
    for operation in OPERATIONS.values():
        for status, answer in operation["responses"].items():
            content = resolved(answer).get("content", {}).get("application/json", {})
            for example in content.get("examples", {}).values():
                [code] = [code for code in HTTP_STATUSES if code.value[0] == example["value"]["code"]]
                assert int(status) == HTTP_STATUSES[code] or int(status) in {412, 413}


def test_every_reason_of_the_gateway_is_known() -> None:
    """The tables that the document is made of have the reason and the status of every HttpError."""
    of_the_service = {error.reason for error in CODES}
    listed = {reason: status for reason, (status, *_) in (GATEWAY | ELSEWHERE).items() if reason not in of_the_service}
    found = {reason: status for reason, status in reasons_of_the_gateway() if reason not in of_the_service}
    assert listed == found


def reasons_of_the_gateway() -> Iterator[tuple[str, int]]:
    for file in Path(service.rest.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"service.rest.{file.stem}")
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "HttpError":
                # The message, the reason, and the status where it is not 400.
                reason, *status = [
                    eval(compile(ast.Expression(each), file.name, "eval"), vars(module)) for each in node.args[1:3]
                ]
                yield reason, status[0] if status else 400
