"""Messages through the transcoder and back: whatever a request holds, its path, query and body say the same."""

import json
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from taskwell.v1 import tasks_pb2

from service.rest.responses import to_json
from service.rest.routes import Routes
from tests.methods import as_http
from tests.rest.library import METHODS, library, message_of

LIBRARY = library(**METHODS)
ROUTES = Routes(LIBRARY)
CONTRACT = Routes(*tasks_pb2.DESCRIPTOR.services_by_name.values())

TEXTS = st.text(max_size=20)
SEGMENTS = st.text(max_size=9).filter(lambda text: "/" not in text)
KINDS = st.sampled_from(["KIND_UNSPECIFIED", "KIND_NOVEL", "KIND_ATLAS"])
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
# The float before the largest: json_format prints the largest rounded up, and then refuses to read it.
MOST_WEIGHT = float.fromhex("0x1.fffffcp+127")
ADDRESSES = st.fixed_dictionaries({}, optional={"city": TEXTS, "lines": st.lists(TEXTS, max_size=3)})
AUTHORS = st.fixed_dictionaries(
    {}, optional={"name": TEXTS, "born": st.integers(-(2**31), 2**31 - 1), "address": ADDRESSES}
)

IN_A_QUERY: dict[str, SearchStrategy[Any]] = {
    "title": TEXTS,
    "pages": st.integers(-(2**31), 2**31 - 1),
    "copies": st.integers(-(2**63), 2**63 - 1),
    "edition": st.integers(0, 2**32 - 1),
    "sold": st.integers(0, 2**64 - 1),
    "lent": st.booleans(),
    "price": NUMBERS,
    "weight": st.floats(-MOST_WEIGHT, MOST_WEIGHT, width=32),
    "kind": KINDS,
    "printed_at": st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
    "lent_for": st.integers(-(10**9), 10**9).map(lambda micros: f"{micros / 10**6:.6f}s"),
    "tags": st.lists(TEXTS, max_size=3),
    "ratings": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=3),
    "kinds": st.lists(KINDS, max_size=3),
    "author": AUTHORS,
    "stars": st.integers(-(2**31), 2**31 - 1),
    "shown": st.lists(st.sampled_from(["title", "printedAt", "author.name"]), unique=True).map(",".join),
}
IN_A_BODY = {
    **IN_A_QUERY,
    "cover": st.sampled_from(["", "AA==", "//79", "-_-_"]),
    "authors": st.lists(AUTHORS, max_size=2),
    "signed": st.booleans(),
    "notes": st.dictionaries(TEXTS, st.none() | st.booleans() | TEXTS | st.lists(TEXTS, max_size=2), max_size=2),
}


def some_of(fields: dict[str, SearchStrategy[Any]]) -> SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(each.capitalize() for each in others)


def flat(fields: dict[str, Any], spelt: bool, at: str = "") -> list[tuple[str, str]]:
    """The parameters of a query that fill these fields."""
    pairs = []
    for name, value in fields.items():
        place = f"{at}{camel(name) if spelt else name}"
        if isinstance(value, dict):
            pairs += flat(value, spelt, f"{place}.")
        else:
            texts = value if isinstance(value, list) else [value]
            pairs += [(place, json.dumps(each) if isinstance(each, bool | float) else str(each)) for each in texts]
    return pairs


def through(
    http_method: str, path: str, query: list[tuple[str, str]], body: Any = None, routes: Routes = ROUTES
) -> Message:
    """What comes of a request that says all this."""
    route, match = routes.find(http_method, path)
    encoded = b"" if body is None else json.dumps(body).encode()
    return route.parse(match, urlencode(query).encode(), encoded)


def without_empty_authors(fields: dict[str, Any]) -> dict[str, Any]:
    """A query has no way to say that a message is there and empty."""
    kept = {
        name: without_empty_authors(value) if isinstance(value, dict) else value
        for name, value in fields.items()
        if value != []
    }
    return {name: value for name, value in kept.items() if value != {}}


@given(fields=some_of(IN_A_QUERY), spelt=st.booleans())
def test_a_query_says_what_the_message_does(fields: dict[str, Any], spelt: bool) -> None:
    expected = message_of(LIBRARY, "SearchBooksRequest", without_empty_authors(fields))
    assert expected == through("GET", "/v1/books", flat(fields, spelt))


@given(fields=some_of(IN_A_BODY), shelf=SEGMENTS, book=SEGMENTS, mask=IN_A_QUERY["shown"], missing=st.booleans())
def test_a_path_a_query_and_a_body_say_what_the_message_does(
    fields: dict[str, Any], shelf: str, book: str, mask: str, missing: bool
) -> None:
    name = f"shelves/{shelf}/books/{book}"
    whole = {"book": {**fields, "name": name}, "update_mask": mask or "*", "allow_missing": missing}
    path = f"/v1/shelves/{quote(shelf, safe='')}/books/{quote(book, safe='')}"
    query = [("updateMask", mask), ("allow_missing", str(missing))]
    assert message_of(LIBRARY, "UpdateBookRequest", whole) == through("PUT", path, query, fields)


@given(fields=some_of(IN_A_BODY), book=SEGMENTS)
def test_a_whole_message_comes_through_as_a_body(fields: dict[str, Any], book: str) -> None:
    expected = message_of(LIBRARY, "ArchiveBookRequest", {**fields, "name": f"shelves/1/books/{book}"})
    assert expected == through("POST", f"/v1/shelves/1/books/{quote(book, safe='')}:archive", [], fields)


@given(fields=some_of(IN_A_BODY))
def test_what_is_printed_is_read_as_the_same_message(fields: dict[str, Any]) -> None:
    book = message_of(LIBRARY, "Book", fields)
    assert json_format.Parse(to_json(book), type(book)()) == book


def values_of(field: FieldDescriptor) -> SearchStrategy[Any]:
    """Values of a field of the contract, as json_format reads them."""
    if field.message_type is FieldMask.DESCRIPTOR:
        return st.lists(st.sampled_from(["title", "etag", "*"]), min_size=1).map(",".join)
    if field.message_type is Timestamp.DESCRIPTOR:
        return IN_A_QUERY["printed_at"]
    if field.message_type is not None:
        return messages_of(field.message_type)
    if field.enum_type is not None:
        return st.sampled_from([value.number for value in field.enum_type.values])
    if field.name == "id":
        return st.uuids().map(str) | st.text(max_size=40)
    return {field.TYPE_STRING: TEXTS, field.TYPE_INT32: IN_A_QUERY["pages"], field.TYPE_BOOL: st.booleans()}[field.type]


def messages_of(message: Descriptor) -> SearchStrategy[dict[str, Any]]:
    """Messages with some of their fields. What names a task, or holds one, is always there."""
    strategies = {field.name: values_of(field) for field in message.fields}
    always = {name: strategies.pop(name) for name in ("id", "task", "update_mask") if name in strategies}
    return st.fixed_dictionaries(always, optional=strategies)


TASK_METHODS = tuple(tasks_pb2.DESCRIPTOR.services_by_name["TaskService"].methods)


@pytest.mark.parametrize("method", TASK_METHODS, ids=lambda method: method.name)
@given(data=st.data())
def test_every_request_of_the_contract_comes_through(method: MethodDescriptor, data: st.DataObject) -> None:
    request = GetMessageClass(method.input_type)()
    expected = json_format.ParseDict(data.draw(messages_of(method.input_type)), request)
    http_method, path, query, body = as_http(method.name, expected)
    assert expected == through(http_method, path, list(query.items()), body, CONTRACT)


def test_the_strategies_know_every_field_of_the_library() -> None:
    assert {*IN_A_BODY, "name", "etag"} == set(LIBRARY.file.message_types_by_name["Book"].fields_by_name)
