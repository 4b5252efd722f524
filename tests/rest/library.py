"""A service that is not ours, with fields of every kind and bindings of every form, made while the tests run."""

from typing import Any

from google.api import annotations_pb2
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    duration_pb2,
    field_mask_pb2,
    json_format,
    struct_pb2,
    text_format,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

IMPORTED = (annotations_pb2, duration_pb2, field_mask_pb2, struct_pb2, timestamp_pb2, wrappers_pb2)

PACKAGE = "taskwell.test.library"

_FIELDS = """
  name:string title:string pages:int32 copies:int64 edition:uint32 sold:uint64 lent:bool price:double weight:float
  cover:bytes kind:Kind printed_at:.google.protobuf.Timestamp lent_for:.google.protobuf.Duration
  tags:string* ratings:int32* kinds:Kind* author:Author stars:.google.protobuf.Int32Value
  signed:.google.protobuf.BoolValue authors:Author* notes:.google.protobuf.Struct shown:.google.protobuf.FieldMask
  etag:string
"""

_TYPES = {
    "string": "TYPE_STRING",
    "int32": "TYPE_INT32",
    "int64": "TYPE_INT64",
    "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64",
    "bool": "TYPE_BOOL",
    "double": "TYPE_DOUBLE",
    "float": "TYPE_FLOAT",
    "bytes": "TYPE_BYTES",
}

METHODS = {
    "GetBook": ("GetBookRequest", 'get: "/v1/{name=shelves/*/books/*}"'),
    "SearchBooks": ("SearchBooksRequest", 'get: "/v1/books"'),
    "CreateBook": ("CreateBookRequest", 'post: "/v1/{parent=shelves/*}/books" body: "book"'),
    "UpdateBook": (
        "UpdateBookRequest",
        'patch: "/v1/{book.name=shelves/*/books/*}" body: "book" '
        'additional_bindings { put: "/v1/{book.name=shelves/*/books/*}" body: "book" }',
    ),
    "ArchiveBook": (
        "ArchiveBookRequest",
        'post: "/v1/{name=shelves/*/books/*}:archive" body: "*" '
        'additional_bindings { delete: "/v1/archive/{name=**}" } '
        'additional_bindings { custom { kind: "PURGE" path: "/v1/archive/{pages}/{lent}/{kind}" } }',
    ),
}

_MESSAGES = {
    "Address": "city:string lines:string*",
    "Author": "name:string born:int32 address:Address",
    "Book": _FIELDS,
    "GetBookRequest": "name:string",
    "SearchBooksRequest": f"{_FIELDS} book:Book",
    "CreateBookRequest": "parent:string book:Book book_id:string",
    "UpdateBookRequest": "book:Book update_mask:.google.protobuf.FieldMask allow_missing:bool",
    "ArchiveBookRequest": _FIELDS,
}


def library(**methods: tuple[str, str]) -> ServiceDescriptor:
    """The service with these methods: the type of each one's request, and its annotation."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{PACKAGE}.proto", package=PACKAGE, syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in IMPORTED)
    kind = file.enum_type.add(name="Kind")
    for number, name in enumerate(("KIND_UNSPECIFIED", "KIND_NOVEL", "KIND_ATLAS")):
        kind.value.add(name=name, number=number)
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field in enumerate(fields.split(), start=1):
            message.field.add().CopyFrom(_field(number, *field.split(":")))
    service = file.service.add(name="Library")
    for name, (request, rule) in methods.items():
        method = service.method.add(name=name, input_type=f".{PACKAGE}.{request}", output_type=f".{PACKAGE}.Book")
        method.client_streaming = "stream" in name.lower()
        if rule:
            text_format.Parse(f"[google.api.http] {{ {rule} }}", method.options)
    pool = descriptor_pool.DescriptorPool()
    for dependency in file.dependency:
        _copy(dependency, pool)
    pool.Add(file)
    return pool.FindServiceByName(f"{PACKAGE}.Library")


def message_of(service: ServiceDescriptor, name: str, fields: dict[str, Any]) -> Message:
    """A message of the service's file."""
    return json_format.ParseDict(fields, GetMessageClass(service.file.message_types_by_name[name])())


def _field(number: int, name: str, kind: str) -> descriptor_pb2.FieldDescriptorProto:
    field = descriptor_pb2.FieldDescriptorProto(name=name, number=number)
    field.label = field.LABEL_REPEATED if kind.endswith("*") else field.LABEL_OPTIONAL
    kind = kind.rstrip("*")
    if kind in _TYPES:
        field.type = field.Type.Value(_TYPES[kind])
    else:
        field.type = field.TYPE_ENUM if kind == "Kind" else field.TYPE_MESSAGE
        field.type_name = kind if kind.startswith(".") else f".{PACKAGE}.{kind}"
    return field


def _copy(name: str, pool: descriptor_pool.DescriptorPool) -> None:
    """Add a file of the usual pool, and what it imports."""
    found = descriptor_pool.Default().FindFileByName(name)
    for dependency in found.dependencies:
        _copy(dependency.name, pool)
    copy = descriptor_pb2.FileDescriptorProto()
    found.CopyToProto(copy)
    pool.Add(copy)
