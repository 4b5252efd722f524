"""JSON bodies: read strictly into messages, and written, by protobuf's json_format."""

import json
from collections.abc import Iterator
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message

from service.errors import Violation
from service.rest.fields import descriptor_of, expected, fields_of, has_form, is_plain
from service.rest.refusals import Refusal, quoted

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def printed(message: Message, part: str = "") -> bytes:
    """The message, or one field of it, as JSON: camelCase, enums by name, fields that are zero too."""
    value = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return _encode(value[fields_of(descriptor_of(message))[part].json_name] if part else value).encode()


def parsed(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises Refusal, also for what two readers could read in two ways."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise _malformed("is not UTF-8") from None
    except json.JSONDecodeError as error:
        problem = f"is not JSON ({error.msg}, line {error.lineno} column {error.colno})" if body.strip() else "is empty"
        raise _malformed(problem) from None
    except RecursionError:
        raise _malformed("is nested too deeply") from None
    except ValueError:
        raise _malformed("has a number of too many digits") from None
    if not isinstance(value, dict):
        raise _malformed("is not a JSON object")
    return value


def fill(message: Message, value: dict[str, Any], at: str = "") -> Iterator[Violation]:
    """Write a JSON object into a message at this path of the request (`task.`); answers what cannot be written."""
    given = set()
    for name, member in value.items():
        field = fields_of(descriptor_of(message)).get(name)
        if field is None:
            yield Violation(f"{at}{quoted(name)}", f"is not a field of {message.DESCRIPTOR.name}")
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
            good = member is None or all(has_form(field, each) for each in several)
            if not (good and _is_read({field.name: member}, message)):
                yield Violation(place, f"must be {expected(field)}")
        given.add(field)


def paths(value: dict[str, Any], message: Descriptor | None) -> Iterator[str]:
    """What a JSON object names, as paths of a field mask. All its members must be fields of the message."""
    for name, member in value.items():
        field = fields_of(message)[name]
        if is_plain(field) and member:
            yield from (f"{field.name}.{path}" for path in paths(member, field.message_type))
        else:
            yield field.name


def _is_read(value: dict[str, Any], message: Message) -> bool:
    try:
        json_format.ParseDict(value, message, max_recursion_depth=50)
    except json_format.ParseError:
        return False
    return True


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise _malformed("names a member twice")
    return value


def _refuse(constant: str) -> None:
    raise _malformed(f"has {constant}, which is not JSON")


def _malformed(problem: str) -> Refusal:
    return Refusal(f"The body {problem}: send a JSON object in UTF-8.", "BODY_MALFORMED")
