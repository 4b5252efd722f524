"""JSON bodies: parsed strictly into messages, and written, with protobuf's json_format."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from service.errors import Violation, excerpt
from service.rest.fields import descriptor_of, expected, fields_of, is_plain, takes
from service.rest.http_error import HttpError
from service.strict_json import parse_object

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def to_json(message: Message, part: str = "") -> bytes:
    """Write the message, or one field of it: camelCase, enums by name, fields with default values too."""
    value = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return _encode(value[fields_of(descriptor_of(message))[part].json_name] if part else value).encode()


def parse_body(body: bytes) -> dict[str, Any]:
    """Parse the JSON object in a body. Raises HttpError."""
    try:
        return parse_object(body)
    except ValueError as error:
        raise HttpError(f"The body {error}: send a JSON object in UTF-8.", "BODY_MALFORMED") from None


def fill(message: Message, value: dict[str, Any], at: str = "") -> Iterator[Violation]:
    """Write a JSON object into a message, which is at this path of the request (`task.`). Yields what is wrong."""
    given = set()
    for name, member in value.items():
        field = fields_of(descriptor_of(message)).get(name)
        if field is None:
            yield Violation(f"{at}{excerpt(name)}", f"is not a field of {message.DESCRIPTOR.name}")
            continue
        place = f"{at}{field.name}"
        if field in given:
            yield Violation(place, "is given twice, in both spellings")
        elif is_plain(field) and isinstance(member, dict):
            inner = getattr(message, field.name)
            inner.SetInParent()
            yield from fill(inner, member, f"{place}.")
        else:
            several = member if field.is_repeated and isinstance(member, list) else [member]
            is_typed = member is None or all(takes(field, each) for each in several)
            if not (is_typed and _merge({field.name: member}, message)):
                yield Violation(place, f"must be {expected(field)}")
        given.add(field)


def mask_paths(value: dict[str, Any], message: Descriptor | None) -> Iterator[str]:
    """Yield the paths of a field mask for the members of a JSON object, all of which are fields of the message."""
    for name, member in value.items():
        field = fields_of(message)[name]
        if is_plain(field) and member:
            yield from (f"{field.name}.{path}" for path in mask_paths(member, field.message_type))
        else:
            yield field.name


def _merge(value: dict[str, Any], message: Message) -> bool:
    """Write the members into the message; False if json_format does not take them."""
    try:
        json_format.ParseDict(value, message, max_recursion_depth=50)
    except json_format.ParseError:
        return False
    return True
