"""Fields of a request from its path and its query, where every value is text."""

import re
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import parse_qsl, unquote

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from service.errors import Violation, excerpt
from service.rest.fields import Path, descriptor_of, expected, from_text, path_of, set_field
from service.rest.responses import HttpError

MOST_PARAMETERS = 100
_BROKEN_ESCAPE = re.compile("%(?![0-9A-Fa-f]{2})")  # urllib takes it for text


def unescape(text: str) -> str:
    """Decode percent-encoded UTF-8. Raises ValueError."""
    if _BROKEN_ESCAPE.search(text):
        raise ValueError(text)
    return unquote(text, errors="strict")


def assign(message: Message, path: Path, texts: Sequence[str]) -> Iterator[Violation]:
    """Set the field at this path of a message. Yields what is wrong."""
    *outer, field = path
    for each in outer:
        message = getattr(message, each.name)
    if field.type == FieldDescriptor.TYPE_STRING and not field.is_repeated:
        setattr(message, field.name, texts[0])
        return
    try:
        values = [from_text(field, text) for text in texts]
        is_set = set_field(message, field, values if field.is_repeated else values[0])
    except ValueError:
        is_set = False
    if not is_set:
        yield Violation(".".join(each.name for each in path), f"must be {expected(field)}")


def fill_from_query(request: Message, query: bytes, bound: Iterable[Path]) -> Iterator[Violation]:
    """Set the fields that a query names. Yields what is wrong, also fields that are `bound` to the path or the body."""
    try:
        text = query.decode("ascii")
        unescape(text)
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS)
    except ValueError:
        problem = f"The query is not percent-encoded UTF-8, or has more than {MOST_PARAMETERS} parameters."
        raise HttpError(problem, "QUERY_MALFORMED") from None
    given: dict[Path, list[str]] = {}
    for name, value in pairs:
        path = path_of(descriptor_of(request), name)
        if path is None:
            yield Violation(excerpt(name), "is not a parameter of this method")
        elif any(path[: len(other)] == other[: len(path)] for other in bound):
            yield Violation(excerpt(name), "is not taken from the query, but from the path or the body")
        elif path in given and not path[-1].is_repeated:
            yield Violation(excerpt(name), "is given more than once")
        else:
            given.setdefault(path, []).append(value)
    for path, texts in given.items():
        yield from assign(request, path, texts)
