"""Messages as JSON Schema: as responses, as bodies of requests, and as parameters.

A response has every field except absent messages, 64-bit numbers as strings, and enums by name. Members that the
message does not have are an error in a request.

The service also takes null for an absent field, and the number of an enum value. The document does not offer them: a
value of two types becomes code that does not compile in several generators, and a client needs only one way.
"""

from collections.abc import Iterator, Mapping, Set

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from tools.openapi.contract import Binding, Schema, behaves, comments
from tools.openapi.limits import ALWAYS_SET, LIMITS, MOST_INT32, STATUSES

COMMENTS = comments()

_INT32: Schema = {"type": "integer", "format": "int32", "minimum": -MOST_INT32 - 1, "maximum": MOST_INT32}
_UINT32: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
_INT64: Schema = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
_UINT64: Schema = {"type": "string", "format": "uint64", "pattern": "^[0-9]+$"}
_NUMBER: Schema = {"anyOf": [{"type": "number"}, {"type": "string", "enum": ["NaN", "Infinity", "-Infinity"]}]}

_SCALARS: Mapping[int, Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    **dict.fromkeys((FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT), _NUMBER),
    **dict.fromkeys((FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_SINT32, FieldDescriptor.TYPE_SFIXED32), _INT32),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT32, FieldDescriptor.TYPE_FIXED32), _UINT32),
    **dict.fromkeys((FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_SINT64, FieldDescriptor.TYPE_SFIXED64), _INT64),
    **dict.fromkeys((FieldDescriptor.TYPE_UINT64, FieldDescriptor.TYPE_FIXED64), _UINT64),
}
_WELL_KNOWN: Mapping[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.FieldMask": {"type": "string"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.Empty": {"type": "object"},
}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def schema_name(message: Descriptor) -> str:
    """The name of a message's schema. Generators make `ListTasksResponse` themselves, for the HTTP response."""
    return message.name.removesuffix("Response") + ("Result" if message.name.endswith("Response") else "")


def body_name(binding: Binding) -> str:
    """The name of the schema of a request body."""
    return f"{binding.operation_id}Body"


def answered_value(message: Descriptor) -> Schema:
    """A message as the whole response of a method."""
    known = _WELL_KNOWN.get(message.full_name)
    return reference(schema_name(message)) if known is None else dict(known)


def answered(message: Descriptor) -> Schema:
    """A message in a response. Every field is present, except messages that are not set."""
    return {
        "type": "object",
        "description": COMMENTS.get(message.full_name, ""),
        "properties": {field.json_name: _described(field, _answered_value(field)) for field in message.fields},
        "required": [
            field.json_name for field in message.fields if not field.has_presence or field.full_name in ALWAYS_SET
        ],
    }


def enumerated(enum: EnumDescriptor) -> Schema:
    """The values of an enum by name, each with its comment."""
    values = "\n".join(
        f"- `{each.name}` ({each.number}): {COMMENTS[f'{enum.full_name}.{each.name}']}" for each in enum.values
    )
    return {
        "type": "string",
        "description": f"{COMMENTS[enum.full_name]}\n\n{values}",
        "enum": [each.name for each in enum.values],
    }


def taken(binding: Binding, message: Descriptor) -> Schema:
    """A message in the body of a request.

    REQUIRED fields must be present, except in a PATCH, whose members are the changes (AIP-134). OUTPUT_ONLY fields are
    ignored.
    """
    required = [field for field in message.fields if behaves(field, "REQUIRED")]
    schema: Schema = {
        "type": "object",
        "description": COMMENTS.get(message.full_name, ""),
        "properties": {
            field.json_name: _described(field, _taken_value(binding, field))
            # Only here: in a response it would make the field optional, for generators.
            | ({"readOnly": True} if behaves(field, "OUTPUT_ONLY") else {})
            for field in message.fields
        },
        "additionalProperties": False,
    }
    if binding.verb == "patch":
        schema["minProperties"] = 1
    elif required:
        schema["required"] = [field.json_name for field in required]
    return schema


def parameter(field: FieldDescriptor) -> Schema:
    """A field in the path or the query."""
    if field.enum_type:
        return reference(field.enum_type.name)
    return _one(field) | LIMITS.get(field.full_name, {})


def query_fields(message: Descriptor, without: Set[str]) -> Iterator[tuple[str, FieldDescriptor]]:
    """The fields of the query by their dotted names in JSON: all except those of the path and of the body."""
    for field in message.fields:
        if field.name in without:
            continue
        if field.message_type and field.message_type.full_name not in _WELL_KNOWN:
            inner = {name.partition(".")[2] for name in without if name.startswith(f"{field.name}.")}
            for name, leaf in query_fields(field.message_type, inner):
                yield f"{field.json_name}.{name}", leaf
        else:
            yield field.json_name, field


def components(messages: set[Descriptor]) -> Mapping[str, Schema]:
    """The schemas of these messages in responses, and of every message and enum below them."""
    found: dict[str, Schema] = {}
    left = sorted(messages, key=lambda message: message.name)
    while left:
        message = left.pop(0)
        if message.full_name in _WELL_KNOWN or schema_name(message) in found:
            continue
        found[schema_name(message)] = answered(message)
        for field in message.fields:
            if field.message_type:
                left.append(field.message_type)
            if field.enum_type:
                found[field.enum_type.name] = enumerated(field.enum_type)
    return found


def _described(field: FieldDescriptor, schema: Schema) -> Schema:
    if field.message_type and field.message_type.GetOptions().map_entry:
        raise ValueError(f"{field.full_name}: tools/openapi does not know maps")
    return {
        "description": COMMENTS.get(field.full_name, ""),
        **schema,
    }


def _answered_value(field: FieldDescriptor) -> Schema:
    if field.enum_type:
        schema = reference(field.enum_type.name)
    elif field.message_type and field.message_type.full_name not in _WELL_KNOWN:
        schema = reference(schema_name(field.message_type))
    else:
        schema = _one(field) | LIMITS.get(field.full_name, {})
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _taken_value(binding: Binding, field: FieldDescriptor) -> Schema:
    if field.enum_type:
        names = STATUSES.get(binding.operation_id)
        schema: Schema = {"type": "string", "enum": names} if names else reference(field.enum_type.name)
    elif field.message_type and field.message_type.full_name not in _WELL_KNOWN:
        schema = taken(binding, field.message_type)
    else:
        # Ignored values need not be within limits.
        limits = {} if behaves(field, "OUTPUT_ONLY") else LIMITS.get(field.full_name, {})
        schema = _one(field) | limits
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _one(field: FieldDescriptor) -> Schema:
    if not field.message_type:
        return dict(_SCALARS[field.type])
    known = _WELL_KNOWN.get(field.message_type.full_name)
    if known is None:
        raise ValueError(f"{field.full_name}: tools/openapi does not know {field.message_type.full_name} in this place")
    return dict(known)
