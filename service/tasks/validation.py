"""Validation of request fields. Each function yields violations, with sentences for the caller."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any

from service.errors import InvalidArgument, Violation, excerpt
from service.model import CONTENT_FIELDS, WRITABLE_FIELDS, Task, TaskDraft, TaskStatus

TITLE_MAX = 255
"""Longest title (Unicode code points)."""
DESCRIPTION_MAX = 5000
"""Longest description (Unicode code points)."""
PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000
PAGE_BYTES_MAX = 3 * 2**20
"""Largest page (bytes), well below the 4 MiB that a gRPC client accepts by default."""
PAGE_CHUNK = 256
"""Most tasks that are read at once: tasks of the largest size then take about 5 MiB."""

OUTPUT_ONLY_FIELDS = ("id", "create_time", "update_time", "complete_time", "etag")

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STATUSES = frozenset(TaskStatus)
NIL_UUID = "00000000-0000-0000-0000-000000000000"
# An output-only timestamp may also be named by its parts (AIP-161).
_OUTPUT_ONLY_PATH = re.compile(r"(?:id|etag|(?:create|update|complete)_time(?:\.(?:seconds|nanos))?)")
_CAPITAL = re.compile("[A-Z]")
# Size of a task without its texts: id, three times, etag and the tags of the fields, rounded up.
_TASK_BYTES = 150
_texts = attrgetter(*(field.name for field in fields(TaskDraft) if field.type is str))
_NUL = "must not contain the NUL character (U+0000)"


def refuse(violations: Iterable[Violation]) -> None:
    """Raise InvalidArgument with all violations, if there are any."""
    if found := tuple(violations):
        raise InvalidArgument(*found)


def fitting(tasks: Sequence[Task]) -> int:
    """The number of these tasks that fit into a page: maybe fewer than requested (AIP-158), but at least one."""
    size = 0
    for count, task in enumerate(tasks):
        size += _TASK_BYTES + len("".join(_texts(task)).encode())
        if size > PAGE_BYTES_MAX and count:
            return count
    return len(tasks)


def title(field: str, value: str) -> Iterator[Violation]:
    if not value:
        yield Violation(field, f"is required: give 1 to {TITLE_MAX} characters")
    elif len(value) > TITLE_MAX:
        yield Violation(
            field, f"must have at most {TITLE_MAX} characters (Unicode code points), this one has {len(value)}"
        )
    elif value.isspace():
        yield Violation(field, "must not consist of white space alone")
    if "\0" in value:
        yield Violation(field, _NUL)


def description(field: str, value: str) -> Iterator[Violation]:
    if len(value) > DESCRIPTION_MAX:
        yield Violation(
            field, f"must have at most {DESCRIPTION_MAX} characters (Unicode code points), this one has {len(value)}"
        )
    if "\0" in value:
        yield Violation(field, _NUL)


def status(field: str, value: int) -> Iterator[Violation]:
    if value not in _STATUSES:
        yield Violation(field, f"must be TASK_STATUS_INCOMPLETE (1) or TASK_STATUS_COMPLETE (2), not {value}")


def new_status(field: str, value: int) -> Iterator[Violation]:
    if value not in {TaskStatus.UNSPECIFIED, TaskStatus.INCOMPLETE}:
        yield Violation(
            field, "of a new task is TASK_STATUS_INCOMPLETE: leave it out, and complete the task afterwards"
        )


_RULES: Mapping[str, Callable[[str, Any], Iterator[Violation]]] = {
    "title": title,
    "description": description,
    "status": status,
}
"""One rule for each writable field."""


def written_fields(draft: TaskDraft, names: Collection[str]) -> Iterator[Violation]:
    """Violations in these fields of a draft. The others are not checked."""
    for name in WRITABLE_FIELDS:
        if name in names:
            yield from _RULES[name](f"task.{name}", getattr(draft, name))


def new_task(draft: TaskDraft) -> Iterator[Violation]:
    """Violations in the draft of a new task."""
    yield from written_fields(draft, CONTENT_FIELDS)
    yield from new_status("task.status", draft.status)


def task_id(field: str, value: str) -> Iterator[Violation]:
    if not value:
        yield Violation(field, "is required: give the id of a task, as CreateTask answered it")
    elif not _UUID.fullmatch(value.lower()):
        yield Violation(field, "must be a UUID of 36 characters, as CreateTask answered it")


def request_id(field: str, value: str) -> Iterator[Violation]:
    if value and not _UUID.fullmatch(value.lower()):
        yield Violation(
            field, "must be a UUID of 36 characters, such as 0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234, or be left out"
        )
    elif value == NIL_UUID:
        yield Violation(field, "must not be the nil UUID: make a new UUID for each task")


def page_size(field: str, value: int) -> Iterator[Violation]:
    if value < 0:
        yield Violation(field, f"must not be negative: give 1 to {PAGE_SIZE_MAX}, or 0 for {PAGE_SIZE_DEFAULT}")


def order_by(field: str, value: str) -> Iterator[Violation]:
    if value.split() not in ([], ["create_time"], ["create_time", "desc"]):
        yield Violation(field, "must be 'create_time desc' (newest first, the default) or 'create_time' (oldest first)")


def update_mask(field: str, paths: Iterable[str]) -> Iterator[Violation]:
    unknown = [path for path in paths if not _is_path(path)]
    if unknown:
        # Only the first is quoted: a mask may have thousands, and the error must fit into the metadata.
        quoted = excerpt(unknown[0])
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        snake_case = _CAPITAL.sub(lambda found: f"_{found[0].lower()}", quoted)
        if _is_path(snake_case):
            yield Violation(field, f"names an unknown path '{quoted}'{more}: write it in snake_case, '{snake_case}'")
            return
        known = ", ".join(WRITABLE_FIELDS)
        yield Violation(
            field, f"names an unknown path '{quoted}'{more}: give any of {known}, or * for a full replacement"
        )


def _is_path(path: str) -> bool:
    """True if an update_mask may have this path."""
    return path == "*" or path in WRITABLE_FIELDS or _OUTPUT_ONLY_PATH.fullmatch(path) is not None
