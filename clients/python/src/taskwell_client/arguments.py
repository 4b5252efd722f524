"""Checks of the arguments of the public functions: each error names the argument and says what it must be.

A value of the wrong type raises TypeError. A value that is invalid in every call raises InvalidArgument, which is a
ValueError. What only the service can judge, like the length of a title, is left to the service.
"""

from __future__ import annotations

import math
import operator
import os
import reprlib
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any, SupportsIndex
from uuid import UUID

from grpc import StatusCode
from taskwell.v1.tasks_pb2 import TaskStatus

from taskwell_client.errors import InvalidArgument, Violation

MAX_TIMEOUT = 365 * 24 * 3600.0
"""Longest timeout (s): a year. gRPC's own clock overflows far above it."""

_INT32 = range(-(2**31), 2**31)
_STATUSES = {"INCOMPLETE": TaskStatus.TASK_STATUS_INCOMPLETE, "COMPLETE": TaskStatus.TASK_STATUS_COMPLETE}


def invalid(name: str, rule: str) -> InvalidArgument:
    """The error for an argument whose value breaks a rule."""
    return InvalidArgument(f"{name} {rule}", StatusCode.INVALID_ARGUMENT, violations=(Violation(name, rule),))


def text(name: str, value: object) -> str:
    """A string that can be sent: its characters are valid Unicode."""
    if not isinstance(value, str):
        raise _mistyped(name, "a str", value)
    try:
        if not value.isascii():
            value.encode()
    except UnicodeEncodeError as error:
        raise invalid(name, f"must be valid Unicode: it has a lone surrogate at index {error.start}") from None
    return value


def identifier(name: str, value: object) -> str:
    """An id: a string or a UUID."""
    if not isinstance(value, str | UUID):
        raise _mistyped(name, "a str or a uuid.UUID", value)
    return text(name, str(value))


def optional(name: str, value: object) -> str:
    """An etag or a request_id as the request has it: empty if None. An empty one of the caller is an error.

    A program whose variable is empty by mistake would otherwise write without the protection that it asked for.
    """
    if value is None:
        return ""
    given = identifier(name, value)
    if not given:
        raise invalid(name, "must not be empty: give None, or leave it out, for none")
    return given


def timeout(name: str, value: object) -> float:
    """A time in seconds, above 0 and finite."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _mistyped(name, "a number of seconds", value)
    try:
        seconds = float(value)
    except OverflowError:
        seconds = math.inf
    if not (0 < seconds <= MAX_TIMEOUT):  # false for NaN too
        shown = reprlib.repr(value) if math.isfinite(seconds) else seconds
        raise invalid(name, f"must be a number of seconds above 0 and up to {MAX_TIMEOUT:.0f}, and not {shown}")
    return seconds


def integer(name: str, value: object, lowest: int, highest: int) -> int:
    """An integer within limits."""
    number = _index(value)
    if number is None:
        raise _mistyped(name, "an int", value)
    if not (lowest <= number <= highest):
        raise invalid(name, f"must be {lowest} to {highest}, and not {reprlib.repr(number)}")
    return number


def page_size(value: object) -> int:
    """A page size that fits the request: the service takes everything above 1000 as 1000."""
    number = _index(value)
    return integer("page_size", value if number is None else min(number, 1000), 0, 1000)


def flag(name: str, value: object) -> bool:
    """A bool, and nothing that is only true or false by the way: the text "false" is true."""
    if not isinstance(value, bool):
        raise _mistyped(name, "a bool", value)
    return value


def status(value: object, *, any_status: bool) -> Any:  # noqa: ANN401 - TaskStatus.ValueType, which stubs alone have
    """A status of a task, or, as a filter, any status."""
    values = {**_STATUSES, **({"ANY_STATUS": TaskStatus.TASK_STATUS_UNSPECIFIED} if any_status else {})}
    if isinstance(value, bool) or not isinstance(value, int) or value not in values.values():
        names = ", ".join(values).replace(", ", " or " if len(values) == 2 else ", ")
        rule = f"must be one of taskwell_client's constants {names}, and not {reprlib.repr(value)}"
        raise TypeError(f"status {rule}") if not isinstance(value, int | str) else invalid("status", rule)
    return value


def target(value: object) -> str:
    """A gRPC target in one line: not a URL, and without the line end of a file that it was read from."""
    name = text("target", value)
    if not name or name != name.strip() or not name.isprintable():
        raise invalid("target", f"must be host:port, or any gRPC target, in one line, and not {reprlib.repr(name)}")
    if name.lower().startswith(("http://", "https://")):
        raise invalid("target", f"must be host:port, without http:// or https://, and not {reprlib.repr(name)}")
    return name


def path(name: str, value: object) -> str | os.PathLike[str] | None:
    """The path of a file, or None."""
    if value is None:
        return None
    if not isinstance(value, str | os.PathLike):
        raise _mistyped(name, "a str or a path", value)
    given = os.fspath(value)
    if not isinstance(given, str):
        raise _mistyped(name, "a str or a path of text", value)
    if not given or "\0" in given:
        raise invalid(name, "must be the path of a file: give None, or leave it out, for none")
    return given


def options(value: object) -> tuple[tuple[str, Any], ...]:
    """Channel arguments of gRPC: pairs of a name and an int, a str or bytes."""
    pairs = (
        tuple(value.items()) if isinstance(value, Mapping) else items("options", value, "pairs of a name and a value")
    )
    for number, pair in enumerate(pairs):
        name = f"options[{number}]"
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise _mistyped(name, "a pair of a name and a value", pair)
        if not isinstance(pair[1], int | str | bytes):
            raise _mistyped(name, "a name with an int, a str or bytes", pair[1])
        if isinstance(pair[1], int) and pair[1] not in _INT32:
            raise invalid(name, "must have an integer of 32 bits")
    return tuple((name, setting) for name, setting in pairs)


def items(name: str, value: object, of: str) -> list[Any]:
    """The items of an iterable. A single str is a mistake: it would be iterated by character."""
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise _mistyped(name, f"an iterable of {of}", value)
    return list(value)


def _index(value: object) -> int | None:
    """The value of an integer of any library, None for everything else. A bool is a mistake."""
    return operator.index(value) if isinstance(value, SupportsIndex) and not isinstance(value, bool) else None


def _mistyped(name: str, wanted: str, value: object) -> TypeError:
    return TypeError(f"{name} must be {wanted}, and not {type(value).__name__}")
