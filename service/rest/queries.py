"""Fields of a request from its path and its query, where everything is text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import parse_qsl, unquote

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.errors import Violation
from service.rest.fields import descriptor_of, expected, fields_of, from_text, is_plain
from service.rest.refusals import Refusal, quoted

Path = tuple[FieldDescriptor, ...]

MOST_PARAMETERS = 100
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")  # which Python's own readers take for text


def unescaped(text: str) -> str:
    """What stands for itself in a path. Raises ValueError for what is not percent-encoded UTF-8."""
    if _BROKEN_ESCAPE.search(text):
        raise ValueError(text)
    return unquote(text, errors="strict")


def path_of(message: Descriptor | None, text: str) -> Path | None:
    """The fields that `task.create_time` passes, in either spelling; None if there is no such path."""
    name, dot, rest = text.partition(".")
    field = fields_of(message).get(name)
    if field is None or not dot:
        return (field,) if field else None
    inner = path_of(field.message_type, rest) if is_plain(field) else None
    return (field, *inner) if inner else None


def assign(message: Message, path: Path, texts: Sequence[str]) -> Iterator[Violation]:
    """Set the field at this path of a message; answers why that cannot be."""
    *outer, field = path
    for each in outer:
        message = getattr(message, each.name)
    if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
        setattr(message, field.name, texts[0])
        return
    try:
        values = [from_text(field, text) for text in texts]
        json_format.ParseDict({field.name: values if field.is_repeated else values[0]}, message)
    except (ValueError, json_format.ParseError):
        yield Violation(".".join(each.name for each in path), f"must be {expected(field)}")


def fill_from_query(request: Message, query: bytes, bound: Iterable[Path]) -> Iterator[Violation]:
    """Set the fields that a query names; answers what cannot be set, or is `bound` to the path or the body."""
    problem = f"The query is not percent-encoded UTF-8, or has more than {MOST_PARAMETERS} parameters."
    text = query.decode("latin-1")
    if not text.isascii() or _BROKEN_ESCAPE.search(text):
        raise Refusal(problem, "QUERY_MALFORMED")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        raise Refusal(problem, "QUERY_MALFORMED") from None
    given: dict[Path, list[str]] = {}
    for name, text in pairs:
        path = path_of(descriptor_of(request), name)
        if path is None:
            yield Violation(quoted(name), "is not a parameter of this method")
        elif any(path[: len(other)] == other[: len(path)] for other in bound):
            yield Violation(quoted(name), "is not taken from the query, but from the path or the body")
        elif path in given and not path[-1].is_repeated:
            yield Violation(quoted(name), "is given more than once")
        else:
            given.setdefault(path, []).append(text)
    for path, texts in given.items():
        yield from assign(request, path, texts)
