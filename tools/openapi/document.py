"""The whole document, and the components that its paths refer to."""

import inspect

from taskwell.v1 import tasks_pb2

from service.config.settings import Settings
from service.error_status import DOMAIN
from service.rpc.status import CODES
from tools.openapi.contract import Schema, bindings
from tools.openapi.operations import paths, tags
from tools.openapi.refusals import ELSEWHERE, GATEWAY
from tools.openapi.responses import shared
from tools.openapi.schemas import body_name, components, reference, taken

_MOST_BYTES = Settings.model_fields["max_message_bytes"].default
_TYPE_PREFIX = "type.googleapis.com/google.rpc."
# `*`, or entity tags (RFC 9110, 8.8.3).
_REASONS = sorted({*(error.reason for error in CODES), *GATEWAY, *ELSEWHERE})
_TAG = r'(W/)?"[!#-~]*"'

_ABOUT = """
Taskwell keeps tasks per user. This is its REST gateway: every call here is a call of the gRPC service
`taskwell.v1.TaskService`, whose comments stand below.

**Who is calling** is said by the header `x-user-id`, or by a token in `authorization`, whichever this server is set up
for: on the page `/docs`, press *Authorize*.

**JSON** is [ProtoJSON](https://protobuf.dev/programming-guides/json/): names in lowerCamelCase, though those of the
proto (`page_size`, `create_time`) are taken too, by bodies as by queries; times as in RFC 3339, enums by name. The
numbers of enums are taken too, and null as good as nothing. A member or query parameter that the request does not have
is refused.

**Errors** have the body of `Status`: a code of gRPC, a message that says what to change, and details for programs, of
which `ErrorInfo.reason` never changes. Where a retry helps, `Retry-After` and `RetryInfo` say when.

**A body** may be {max_message_bytes} bytes long, unless the server is set up otherwise.

**GET answers HEAD too**, and OPTIONS what a path allows.
"""


def document() -> Schema:
    """The OpenAPI document."""
    operations = paths()
    answers = shared(operations)
    return {
        "openapi": "3.1.1",
        "info": {
            # Generators name the package after it, and `taskwell` and `taskwell-client` are taken.
            "title": "Taskwell REST",
            "version": tasks_pb2.DESCRIPTOR.package.rpartition(".")[2],
            "summary": "Tasks per user: create, list, get, update, delete and complete them.",
            "description": inspect.cleandoc(_ABOUT).format(max_message_bytes=_MOST_BYTES),
            "contact": {"name": "The maintainers of Taskwell"},
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/", "description": "The server that this document comes from"}],
        "tags": tags(),
        "paths": operations,
        "components": {
            "schemas": {
                **components({binding.method.output_type for binding in bindings()}),
                **{body_name(each): taken(each, each.body_message) for each in bindings() if each.body_message},
                **_error_schemas(),
            },
            "responses": answers,
            "parameters": _parameters(),
            "headers": _headers(),
            "securitySchemes": {
                "user": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "x-user-id",
                    "description": "The user's id, as a trusted gateway says it: 1 to 255 printable ASCII characters "
                    "without spaces. Counts where the server is set up with `TASKWELL_AUTH=metadata`.",
                },
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A signed token whose subject is the user. Counts with `TASKWELL_AUTH=jwt`.",
                },
            },
        },
    }


def _error_schemas() -> Schema:
    """google.rpc.Status and its details. Written here, because the descriptors of google.rpc have no comments."""
    details = {"ErrorInfo": "error_info", "BadRequest": "bad_request", "RetryInfo": "retry_info"}
    return {
        "Status": {
            "type": "object",
            "description": "What went wrong (google.rpc.Status, AIP-193).",
            "properties": {
                "code": {"type": "integer", "format": "int32", "description": "The code of gRPC (google.rpc.Code)."},
                "message": {"type": "string", "description": "What is wrong and what to change, for people."},
                "details": {
                    "type": "array",
                    "description": "The same for programs: always an ErrorInfo.",
                    "items": {
                        "oneOf": [reference(name) for name in details],
                        "discriminator": {
                            "propertyName": "@type",
                            "mapping": {f"{_TYPE_PREFIX}{name}": reference(name)["$ref"] for name in details},
                        },
                    },
                },
            },
            "required": ["code", "message", "details"],
        },
        "ErrorInfo": _detail(
            "ErrorInfo",
            "Why, in a word that never changes.",
            {
                "reason": {"type": "string", "enum": _REASONS},
                "domain": {"type": "string", "const": DOMAIN},
                "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            ["reason", "domain"],
        ),
        "BadRequest": _detail(
            "BadRequest",
            "What is wrong with each field.",
            {
                "fieldViolations": {
                    "type": "array",
                    "items": reference("FieldViolation"),
                }
            },
            ["fieldViolations"],
        ),
        "FieldViolation": {
            "type": "object",
            "description": "What is wrong with one field.",
            "properties": {
                "field": {"type": "string", "description": "The path of the field in the request message."},
                "description": {"type": "string", "description": "What to change."},
                "reason": {"type": "string", "description": "Not used: empty."},
            },
            "required": ["field", "description"],
        },
        "RetryInfo": _detail(
            "RetryInfo",
            "When the same call may succeed.",
            {"retryDelay": {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?s$", "examples": ["0.100s"]}},
            ["retryDelay"],
        ),
    }


def _detail(name: str, description: str, properties: Schema, required: list[str]) -> Schema:
    type_of = {"@type": {"type": "string", "const": f"{_TYPE_PREFIX}{name}"}}
    return {
        "type": "object",
        "description": description,
        "properties": type_of | properties,
        "required": ["@type", *required],
    }


def _parameters() -> Schema:
    """The headers that a request may have. No examples: the page would fill its forms with them."""
    headers = {
        "If-Match": "Do it only if the task still has this ETag, or one of these, each in quotes; else answer 412.",
        "If-None-Match": "Answer 304, without a body, if the task has this ETag, or one of these, each in quotes.",
        "Grpc-Timeout": "The deadline, from now: up to 8 digits and a unit, `H`, `M`, `S`, `m` (ms), `u` or `n`.",
        "X-Request-Id": "A name for this request in the log.",
        "Traceparent": "The trace that this request is part of (W3C Trace Context).",
    }
    patterns = {"If-Match": rf"^(\*|{_TAG})$", "Grpc-Timeout": "^[0-9]{1,8}[HMSmun]$"}
    return {
        name: {
            "name": name,
            "in": "header",
            "description": description,
            "schema": {"type": "string", **({"pattern": patterns[name]} if name in patterns else {})},
        }
        for name, description in headers.items()
    }


def _headers() -> Schema:
    """The headers that a response may have."""
    return {
        "ETag": {
            "description": "The state of the task: its `etag` in quotes.",
            "schema": {"type": "string", "pattern": '^"[^"]+"$'},
            "example": '"1"',
        },
        "Retry-After": {
            "description": "When to try again (s).",
            "schema": {"type": "string", "pattern": "^[0-9]+$"},
            "example": "1",
        },
        "WWW-Authenticate": {
            "description": "How to say who is calling: by a token, or, with X-User-Id, as a gateway.",
            "schema": {"type": "string"},
            "example": 'Bearer realm="taskwell"',
        },
    }
