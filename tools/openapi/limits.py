"""The limits of fields as JSON Schema, from the service's own validation.

A field that is not in the table may have any value of its type.
"""

import re
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby

from taskwell.v1 import tasks_pb2

from service.model import WRITABLE_FIELDS
from service.tasks import validation
from service.tasks.validation import DESCRIPTION_MAX, OUTPUT_ONLY_FIELDS, PAGE_SIZE_DEFAULT, TITLE_MAX
from tools.openapi.contract import Schema

UUID: Schema = {"type": "string", "format": "uuid"}
MOST_INT32 = 2**31 - 1


def _white_space() -> str:
    """Python's white space as a character class of a regular expression, because JavaScript's `\\s` differs."""
    codes = [code for code in range(sys.maxunicode + 1) if chr(code).isspace()]
    runs = [[code for _, code in run] for _, run in groupby(enumerate(codes), lambda pair: pair[1] - pair[0])]
    return "".join(f"\\u{run[0]:04x}" + (f"-\\u{run[-1]:04x}" if len(run) > 1 else "") for run in runs)


_TITLE: Schema = {
    "minLength": 1,
    "maxLength": TITLE_MAX,
    # No NUL, and not only white space.
    "pattern": f"^[^\\u0000]*[^\\u0000{_white_space()}][^\\u0000]*$",
}


def _mask_paths() -> Iterator[str]:
    """Every path that update_mask accepts, in both spellings."""
    times = [f"{name}.{part}" for name in OUTPUT_ONLY_FIELDS if name.endswith("_time") for part in ("seconds", "nanos")]
    for path in ("*", *WRITABLE_FIELDS, *OUTPUT_ONLY_FIELDS, *times):
        assert not [*validation.update_mask("", [path])]
        yield from dict.fromkeys((path, re.sub("_([a-z])", lambda found: found[1].upper(), path)))


_PATH = "|".join(map(re.escape, _mask_paths()))
_MESSAGES = tasks_pb2.DESCRIPTOR.message_types_by_name.values()
_STATUSES = tasks_pb2.TaskStatus.DESCRIPTOR.values

LIMITS: Mapping[str, Schema] = {
    **{f"{message.full_name}.id": UUID for message in _MESSAGES if "id" in message.fields_by_name},
    "taskwell.v1.Task.title": _TITLE,
    "taskwell.v1.Task.description": {"maxLength": DESCRIPTION_MAX, "pattern": "^[^\\u0000]*$"},
    # The nil UUID has no such digit.
    "taskwell.v1.CreateTaskRequest.request_id": UUID | {"pattern": "[1-9a-fA-F]"},
    "taskwell.v1.ListTasksRequest.page_size": {"minimum": 0, "maximum": MOST_INT32, "default": PAGE_SIZE_DEFAULT},
    "taskwell.v1.ListTasksRequest.order_by": {
        "enum": ["create_time desc", "create_time"],
        "default": "create_time desc",
    },
    "taskwell.v1.UpdateTaskRequest.update_mask": {"pattern": rf"^(({_PATH})(,({_PATH}))*)?$"},
}
"""By the full name of the field, in every message."""

ALWAYS_SET = frozenset({"taskwell.v1.Task.create_time", "taskwell.v1.Task.update_time"})
"""The fields with messages as values that are set in every response."""

STATUSES: Mapping[str, list[str]] = {
    "CreateTask": [each.name for each in _STATUSES if not [*validation.new_status("", each.number)]],
    "UpdateTask": [each.name for each in _STATUSES if each.number and not [*validation.status("", each.number)]],
}
"""The statuses that the body of an operation may set, if not all."""
