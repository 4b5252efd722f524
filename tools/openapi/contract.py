"""Reads the contract from its descriptors: methods, HTTP bindings and comments."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from google.api import annotations_pb2, field_behavior_pb2
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from taskwell.v1 import tasks_pb2

Schema: TypeAlias = dict[str, Any]

PROTOSET = Path(tasks_pb2.__file__).with_name("taskwell.protoset")
_VARIABLE = re.compile(r"\{([a-z0-9_.]+)\}")


@dataclass(frozen=True)
class Binding:
    """One HTTP binding of a method: the annotation itself, or one of its additional bindings."""

    method: MethodDescriptor
    verb: str
    """In lower case, as OpenAPI spells it."""

    template: str
    """The path as the annotation has it: `/v1/tasks/{task.id}`."""

    body: str
    """The field that the body fills, `*` for the whole request, empty for no body."""

    additional: bool

    @property
    def operation_id(self) -> str:
        """The method's name; an additional binding adds its verb: `UpdateTaskPut`."""
        return self.method.name + (self.verb.title() if self.additional else "")

    @property
    def path_fields(self) -> Mapping[str, str]:
        """The variables of the path by their names in OpenAPI, with the field that each fills.

        Paths that differ in their variables' names alone are one path to OpenAPI, so a nested field goes by its last
        name: `{task.id}` is `{id}`, as it is in the other methods.
        """
        return {field.rpartition(".")[2]: field for field in _VARIABLE.findall(self.template)}

    @property
    def path(self) -> str:
        """The path with its variables as OpenAPI has them."""
        return _VARIABLE.sub(lambda match: "{" + match[1].rpartition(".")[2] + "}", self.template)

    @property
    def body_message(self) -> Descriptor | None:
        """The message that the body holds, None for no body."""
        if self.body == "*":
            return self.method.input_type
        return field_at(self.method.input_type, self.body).message_type if self.body else None


def bindings() -> Iterator[Binding]:
    """Every binding of every method, in the order of the proto."""
    for service in tasks_pb2.DESCRIPTOR.services_by_name.values():
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            for each in (rule, *rule.additional_bindings):
                verb = each.WhichOneof("pattern")
                template = getattr(each, verb)
                if _VARIABLE.sub("", template).count("{"):
                    raise ValueError(f"{method.full_name}: {template} has a variable that is more than a field")
                yield Binding(method, verb, template, each.body, additional=each is not rule)


def field_at(message: Descriptor, path: str) -> FieldDescriptor:
    """The field at a dotted path of this message."""
    *parents, name = path.split(".")
    for parent in parents:
        inner = message.fields_by_name[parent].message_type
        assert inner is not None, f"{message.full_name}.{parent} is no message"
        message = inner
    return message.fields_by_name[name]


def behaves(field: FieldDescriptor, behavior: str) -> bool:
    """True if a field is annotated with this google.api.field_behavior."""
    behaviors = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
    return field_behavior_pb2.FieldBehavior.Value(behavior) in behaviors


def comments() -> Mapping[str, str]:
    """Every comment of the proto by the full name of its element; each paragraph is one line, as in Markdown."""
    files = descriptor_pb2.FileDescriptorSet.FromString(PROTOSET.read_bytes()).file
    [file] = [each for each in files if each.name == tasks_pb2.DESCRIPTOR.name]
    texts = {tuple(place.path): place.leading_comments for place in file.source_code_info.location}
    return {name: _unwrapped(texts[path]) for path, name in _places(file, file.package, ()) if texts.get(path)}


def _places(proto: Message, name: str, path: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """The paths of nested elements in the source info: field numbers and indexes."""
    for field, value in proto.ListFields():
        if field.message_type and field.is_repeated:
            children: Any = value
            for index, child in enumerate(children):
                if getattr(child, "name", ""):
                    place = (*path, field.number, index)
                    # In protobuf's naming the values of an enum are its siblings; here they are below it.
                    yield place, f"{name}.{child.name}"
                    yield from _places(child, f"{name}.{child.name}", place)


def _unwrapped(comment: str) -> str:
    paragraphs = re.split(r"\n\s*\n", comment.strip())
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
