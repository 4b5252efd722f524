"""Fields of messages: found by name, the values that they take in JSON and in a query, and these in words."""

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType
from typing import cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

_WORDS = {
    FieldDescriptor.CPPTYPE_STRING: "a string of Unicode characters",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_INT32: f"a whole number from {-(2**31)} to {2**31 - 1}",
    FieldDescriptor.CPPTYPE_INT64: f"a whole number from {-(2**63)} to {2**63 - 1}",
    FieldDescriptor.CPPTYPE_UINT32: f"a whole number from 0 to {2**32 - 1}",
    FieldDescriptor.CPPTYPE_UINT64: f"a whole number from 0 to {2**64 - 1}",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
}
_WELL_KNOWN = {
    "google.protobuf.Timestamp": "a time as in 2026-11-21T10:15:02Z",
    "google.protobuf.Duration": "seconds as in 1.5s",
    "google.protobuf.FieldMask": "names of fields, separated by commas",
}
_WHOLE = re.compile(r"[+-]?[0-9]{1,20}")
_CAPITAL = re.compile(r"(?:^|[.,])[A-Z]")  # no field name begins so; it would be read as _ and a small letter
_BOOLS = {  # Go's strconv.ParseBool
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}

Path = tuple[FieldDescriptor, ...]
"""The fields that lead from a message to one of its fields."""


def descriptor_of(message: Message) -> Descriptor:
    return cast("Descriptor", message.DESCRIPTOR)  # its type stub says that it may be of either implementation


@cache
def fields_of(message: Descriptor | None) -> Mapping[str, FieldDescriptor]:
    """Return the fields of a message by their names, in both spellings."""
    fields = message.fields if message else ()
    return MappingProxyType({name: field for field in fields for name in (field.name, field.json_name)})


def path_of(message: Descriptor | None, text: str) -> Path | None:
    """Parse a path such as `task.create_time`, in either spelling; None if there is no such field."""
    name, dot, rest = text.partition(".")
    field = fields_of(message).get(name)
    if field is None or not dot:
        return (field,) if field else None
    inner = path_of(field.message_type, rest) if is_plain(field) else None
    return (field, *inner) if inner else None


def is_plain(field: FieldDescriptor) -> bool:
    """True if its value is one message, which JSON writes as an object of its fields."""
    message = field.message_type
    return message is not None and not field.is_repeated and message.file.package != "google.protobuf"


def is_message(field: FieldDescriptor, name: str) -> bool:
    """True if its values are messages of this full name."""
    return field.message_type is not None and field.message_type.full_name == name


def expected(field: FieldDescriptor) -> str:
    """Describe the values that the field takes."""
    wrapped = fields_of(field.message_type).get("value")
    if field.enum_type:
        one = " or ".join(value.name for value in field.enum_type.values)
    elif field.message_type:
        usual = expected(wrapped) if wrapped and not is_plain(field) else "an object"
        one = _WELL_KNOWN.get(field.message_type.full_name, usual)
    else:
        one = "base64" if field.type == FieldDescriptor.TYPE_BYTES else _WORDS[field.cpp_type]
    return f"a list, each of it {one}" if field.is_repeated else one


def takes(field: FieldDescriptor, value: object) -> bool:
    """True if the field takes this JSON value, as one of its values. json_format would take `true` and 1.5 for 1."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return isinstance(value, bool)
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        return True  # json_format is strict with these
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return isinstance(value, str)
    fraction = field.cpp_type in {FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE}
    if isinstance(value, str):
        if field.enum_type:
            # Protobuf cannot look up a lone surrogate, which JSON can hold.
            return value.isascii() and value in field.enum_type.values_by_name
        return _WHOLE.fullmatch(value) is not None or (fraction and "_" not in value)
    if isinstance(value, float):
        return fraction or value.is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def from_text(field: FieldDescriptor, text: str) -> object:
    """Convert text from a path or a query to the JSON value of the field. Raises ValueError."""
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL or is_message(field, "google.protobuf.BoolValue"):
        if text not in _BOOLS:
            raise ValueError
        return _BOOLS[text]
    if field.enum_type and _WHOLE.fullmatch(text):
        return int(text)
    if is_message(field, "google.protobuf.FieldMask"):
        if _CAPITAL.search(text):
            raise ValueError
        return re.sub("_([a-z])", lambda found: found[1].upper(), text)
    if not takes(field, text):
        raise ValueError
    return text
