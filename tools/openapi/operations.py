"""The paths: an operation for every binding of every method, and the two health checks."""

import re
from collections.abc import Iterator

from taskwell.v1 import tasks_pb2

from service.config.settings import Settings
from service.rest.headers import MERGE_PATCH
from service.rpc.policy import POLICY, Access
from tools.openapi.contract import Binding, Schema, behaves, bindings, field_at
from tools.openapi.examples import BODIES
from tools.openapi.responses import has_etag, health_responses, responses
from tools.openapi.schemas import COMMENTS, body_name, parameter, query_fields, reference

# Parameters of every operation beside the fields of its request.
_COMMON_HEADERS = ("Grpc-Timeout", "X-Request-Id", "Traceparent")
_SCOPES = {Access.READ: "jwt_read_scope", Access.WRITE: "jwt_write_scope"}


def paths() -> Schema:
    """Every path with its operations."""
    found: Schema = {}
    for binding in bindings():
        found.setdefault(binding.path, {})[binding.verb] = _operation(binding)
    return found | _health()


def tags() -> list[Schema]:
    """The groups of operations: the services of the proto, and the health checks."""
    services = tasks_pb2.DESCRIPTOR.services_by_name.values()
    return [
        *({"name": service.name, "description": COMMENTS[service.full_name]} for service in services),
        {"name": "Health", "description": "How this server is: for probes and load balancers. Needs no user."},
    ]


def _operation(binding: Binding) -> Schema:
    method = binding.method
    comment = COMMENTS[method.full_name]
    return {
        "operationId": binding.operation_id,
        "tags": [method.containing_service.name],
        "summary": re.split(r"\.\s", comment)[0].rstrip(".").replace("`", ""),
        "description": comment,
        "security": _security(binding),
        "parameters": [*_parameters(binding)],
        **({"requestBody": _body(binding)} if binding.body else {}),
        "responses": responses(binding),
    }


def _security(binding: Binding) -> list[Schema]:
    """A user name, or a token with the scope that it needs if scopes are required."""
    access = access_of(f"/{binding.method.containing_service.full_name}/{binding.method.name}")
    if access is Access.OPEN:
        return []
    scopes = [Settings.model_fields[_SCOPES[access]].default] if access in _SCOPES else []
    return [{"user": []}, {"token": scopes}]


def access_of(path: str) -> Access:
    """The policy of a method. Raises SystemExit, with what to do, for a method that the policy lacks."""
    if path not in POLICY:
        raise SystemExit(
            f"generate: service/rpc/policy.py has no line for {path}. Add one with Access.READ or Access.WRITE "
            "and run 'make generate' again: the OpenAPI document says which scope each method needs"
        )
    return POLICY[path]


def _parameters(binding: Binding) -> Iterator[Schema]:
    request = binding.method.input_type
    for name, path in binding.path_fields.items():
        field = field_at(request, path)
        yield _parameter(name, "path", COMMENTS[field.full_name], parameter(field), required=True)
    if binding.body != "*":
        for name, field in query_fields(request, {*binding.path_fields.values(), binding.body}):
            required = behaves(field, "REQUIRED")
            yield _parameter(name, "query", COMMENTS[field.full_name], parameter(field), required=required)
    if takes_etag(binding):
        yield {"$ref": "#/components/parameters/If-Match"}
    if binding.verb == "get" and has_etag(binding.method.output_type):
        yield {"$ref": "#/components/parameters/If-None-Match"}
    yield from ({"$ref": f"#/components/parameters/{name}"} for name in _COMMON_HEADERS)


def _parameter(name: str, place: str, description: str, schema: Schema, *, required: bool) -> Schema:
    return {
        "name": name,
        "in": place,
        **({"required": True} if required else {}),
        "description": description,
        "schema": schema,
    }


def _body(binding: Binding) -> Schema:
    content: Schema = {"schema": reference(body_name(binding))}
    if binding.operation_id in BODIES:
        content["examples"] = {
            name: {"summary": name, "value": value} for name, value in BODIES[binding.operation_id].items()
        }
    request = binding.method.input_type
    of_field = request if binding.body == "*" else request.fields_by_name[binding.body]
    return {
        "required": True,
        "description": COMMENTS[of_field.full_name],
        "content": {
            "application/json": content,
            **({MERGE_PATCH.decode(): content} if binding.verb == "patch" else {}),
        },
    }


def takes_etag(binding: Binding) -> bool:
    """True if a request may have a precondition on the state of the task."""
    for path in binding.path_fields.values():
        parent, _, _ = path.rpartition(".")
        message = field_at(binding.method.input_type, parent).message_type if parent else binding.method.input_type
        return message is not None and has_etag(message)
    return False


def _health() -> Schema:
    return {
        path: {
            "get": {
                "operationId": name,
                "tags": ["Health"],
                "summary": summary,
                "security": [],
                "responses": health_responses(answers),
            }
        }
        for path, name, summary, answers in (
            ("/healthz", "Alive", "Whether this server is alive", {200: ["alive"]}),
            (
                *("/readyz", "Ready", "Whether this server takes calls: what its gRPC health service says"),
                {200: ["SERVING"], 503: ["NOT_SERVING"]},
            ),
        )
    }
