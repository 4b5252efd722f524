"""Fields of messages: found by name, set from JSON values and from text, and described in errors."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from types import MappingProxyType
from typing import cast

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from service.errors import Violation, excerpt

_FORMS = {
    "google.protobuf.Timestamp": "a time as in 2026-11-21T10:15:02Z",
    "google.protobuf.Duration": "seconds as in 1.5s",
    "google.protobuf.FieldMask": "names of fields, separated by commas",
}
_NUMBERS = {
    FieldDescriptor.CPPTYPE_INT32: "int32",
    FieldDescriptor.CPPTYPE_INT64: "int64",
    FieldDescriptor.CPPTYPE_UINT32: "uint32",
    FieldDescriptor.CPPTYPE_UINT64: "uint64",
    FieldDescriptor.CPPTYPE_FLOAT: "float",
    FieldDescriptor.CPPTYPE_DOUBLE: "double",
}
_NUMBER = re.compile("[0-9.eE+-]{1,40}")
_BOOLS: Mapping[str, object] = {  # Go's strconv.ParseBool, as in grpc-gateway
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}

Path = tuple[FieldDescriptor, ...]
"""The fields that lead from a message to one of its fields."""


def descriptor_of(message: Message) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)  # its type stub says that it may be of either implementation


@cache
def fields_of(message: Descriptor) -> Mapping[str, FieldDescriptor]:
    """Return the fields of a message by their names, in both spellings."""
    return MappingProxyType({name: field for field in message.fields for name in (field.name, field.json_name)})


def path_of(message: Descriptor | None, text: str) -> Path | None:
    """Parse a path such as `task.create_time`, in either spelling; None if there is no such field."""
    name, dot, rest = text.partition(".")
    field = fields_of(message).get(name) if message else None
    if field is None or not dot:
        return (field,) if field else None
    inner = path_of(field.message_type, rest) if is_plain(field) else None
    return (field, *inner) if inner else None


def is_plain(field: FieldDescriptor) -> bool:
    """True if its value is one message, which JSON writes as an object of its fields."""
    message = field.message_type
    return message is not None and not field.is_repeated and message.file.package != "google.protobuf"


def is_mask(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == "google.protobuf.FieldMask"


def expected(field: FieldDescriptor) -> str:
    """Describe the values that the field takes."""
    if field.enum_type:
        one = " or ".join(value.name for value in field.enum_type.values)
    elif field.message_type:
        one = _FORMS.get(field.message_type.full_name, "an object")
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        one = "a string of Unicode characters" if field.type == FieldDescriptor.TYPE_STRING else "base64"
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        one = "true or false"
    else:
        one = f"a number ({_NUMBERS[field.cpp_type]})"
    return f"a list, each of it {one}" if field.is_repeated else one


def set_field(message: Message, field: FieldDescriptor, value: object) -> bool:
    """Set the field to a JSON value. Returns False if it does not take the value."""
    several = value if field.is_repeated and isinstance(value, list) else [value]
    if field.enum_type and value is not None and not all(_is_enum_value(field, each) for each in several):
        return False
    try:
        json_format.ParseDict({field.name: value}, message, max_recursion_depth=50)
    except json_format.ParseError:
        return False
    return True


def fill(message: Message, members: Mapping[str, object], at: str) -> Iterator[Violation]:
    """Write a JSON object into a message, which is at this path of the request (`task.`). Yields what is wrong."""
    given = set()
    for name, member in members.items():
        field = fields_of(descriptor_of(message)).get(name)
        if field is None:
            yield Violation(f"{at}{excerpt(name)}", f"is not a field of {message.DESCRIPTOR.name}")
        elif field in given:
            yield Violation(f"{at}{field.name}", "is given twice, in both spellings")
        elif not set_field(message, field, member):
            yield Violation(f"{at}{field.name}", f"must be {expected(field)}")
        given.add(field)


def _is_enum_value(field: FieldDescriptor, value: object) -> bool:
    """True for a name or a number. json_format would take `true` and 1.5 for 1, and fail for a lone surrogate."""
    if isinstance(value, str) and field.enum_type:
        return value.isascii() and value in field.enum_type.values_by_name
    return isinstance(value, int) and not isinstance(value, bool)


def from_text(field: FieldDescriptor, text: str) -> object:
    """Convert text from a path or a query to a JSON value, which the field may still not take. Raises ValueError."""
    if is_mask(field):
        return re.sub("_([a-z])", lambda found: found[1].upper(), text)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return _BOOLS.get(text, text)
    is_text = field.message_type or field.cpp_type == FieldDescriptor.CPPTYPE_STRING
    if is_text or (field.enum_type and text in field.enum_type.values_by_name):
        return text
    if not _NUMBER.fullmatch(text):
        raise ValueError(text)
    return json.loads(text)
