"""Routes, queries and bodies of a service that is not ours: what google/api/http.proto says, and grpc-gateway does."""

import json
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message
from taskwell.v1 import tasks_pb2

from service.errors import InvalidArgument
from service.rest import responses
from service.rest.responses import HttpError
from service.rest.routes import Routes
from tests.rest.library import METHODS, library, message_of

LIBRARY = library(**METHODS)
ROUTES = Routes(LIBRARY)
BOOK = "/v1/shelves/1/books/2"


def read(http_method: str, target: str, body: Any = None) -> tuple[str, dict[str, Any]]:
    """Which method a request calls, and with which fields."""
    path, _, query = target.partition("?")
    route, match = ROUTES.find(http_method, path)
    message = route.parse(match, query.encode(), b"" if body is None else json.dumps(body).encode())
    return route.call.rpartition("/")[2], json_format.MessageToDict(message, preserving_proto_field_name=True)


def refusal(http_method: str, target: str, body: Any = None) -> HttpError | InvalidArgument:
    try:
        read(http_method, target, body)
    except (HttpError, InvalidArgument) as error:
        return error
    raise AssertionError("the request is taken")


def http_error(http_method: str, target: str, body: Any = None) -> HttpError:
    refused = refusal(http_method, target, body)
    assert isinstance(refused, HttpError)
    return refused


def wrong(http_method: str, target: str, body: Any = None) -> dict[str, str]:
    """Which fields are refused, and why."""
    refused = refusal(http_method, target, body)
    assert isinstance(refused, InvalidArgument)
    return {each.field: each.description for each in refused.violations}


# Routes


@pytest.mark.parametrize(
    ("http_method", "target", "method", "fields"),
    [
        ("GET", BOOK, "GetBook", {"name": "shelves/1/books/2"}),
        ("GET", "/v1/shelves/a%20b/books/%C3%A9%2F", "GetBook", {"name": "shelves/a b/books/é/"}),
        ("GET", "/v1/shelves/1/books/2%3Aarchive", "GetBook", {"name": "shelves/1/books/2:archive"}),
        ("GET", "/v1/shelves//books/", "GetBook", {"name": "shelves//books/"}),
        ("GET", "/v1/books", "SearchBooks", {}),
        ("HEAD", "/v1/books", "SearchBooks", {}),
        ("DELETE", "/v1/archive/a/b/c", "ArchiveBook", {"name": "a/b/c"}),
        ("DELETE", "/v1/archive/", "ArchiveBook", {}),
        ("PURGE", "/v1/archive/7/true/KIND_ATLAS", "ArchiveBook", {"pages": 7, "lent": True, "kind": "KIND_ATLAS"}),
    ],
)
def test_a_path_leads_to_a_method_and_fills_its_fields(
    http_method: str, target: str, method: str, fields: dict[str, Any]
) -> None:
    assert read(http_method, target) == (method, fields)


def test_a_verb_is_told_from_a_name() -> None:
    assert read("POST", f"{BOOK}:archive", {}) == ("ArchiveBook", {"name": "shelves/1/books/2"})
    name = "shelves/1/books/2:archive"
    assert http_error("POST", f"{BOOK}:archive:archive", {}).status == 404, "a name has no colon"
    assert http_error("POST", f"{BOOK}%3Aarchive", {}).status == 405, "what is encoded is part of the name"
    assert read("GET", f"{BOOK}%3Aarchive") == ("GetBook", {"name": name})
    assert http_error("POST", f"{BOOK}:unknown", {}).status == 404
    assert http_error("GET", f"{BOOK}:archive").status == 405, "the path is of the method that has the verb"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "*",
        "/v1",
        "/v2/books",
        "/v1/books/",
        "//v1/books",
        "/v1//books",
        "/V1/books",
        "/v1/%62ooks",
        "/v1/x/../books",
    ],
)
def test_a_path_is_compared_letter_by_letter(path: str) -> None:
    refused = http_error("GET", path)
    assert (refused.status, refused.reason) == (404, "ROUTE_UNKNOWN")
    assert ROUTES.allowed(path) == []


def test_a_path_says_what_it_takes() -> None:
    refused = http_error("DELETE", BOOK)
    assert (refused.status, refused.reason) == (405, "METHOD_UNKNOWN")
    assert list(refused.headers) == [(b"allow", b"GET, HEAD, OPTIONS, PATCH, PUT")]
    assert ROUTES.allowed("/v1/archive/1/true/2") == ["DELETE", "OPTIONS", "PURGE"]


def test_a_path_must_be_utf_8() -> None:
    assert refusal("GET", "/v1/shelves/1/books/%ff").reason == "PATH_MALFORMED"


def test_a_field_in_the_path_must_fit() -> None:
    assert wrong("PURGE", "/v1/archive/many/perhaps/KIND_ATLAS") == {
        "pages": "must be a number (int32)",
        "lent": "must be true or false",
    }


def test_a_new_method_has_its_routes_and_one_without_an_annotation_has_none() -> None:
    more = library(**METHODS, ShutBook=("GetBookRequest", 'put: "/v1/{name=shut/*}"'), HideBook=("GetBookRequest", ""))
    route, _ = Routes(more).find("PUT", "/v1/shut/1")
    assert route.call == "/taskwell.test.library.Library/ShutBook"
    with pytest.raises(HttpError):
        ROUTES.find("PUT", "/v1/shut/1")
    assert Routes(library(HideBook=("GetBookRequest", ""))).allowed("/v1/shut/1") == []


@pytest.mark.parametrize(
    ("name", "request_type", "rule"),
    [
        ("GetBook", "GetBookRequest", 'get: "/v1/{title}"'),
        ("GetBook", "GetBookRequest", 'post: "/v1" body: "book"'),
        ("GetBook", "SearchBooksRequest", 'post: "/v1" body: "tags"'),
        ("GetBook", "SearchBooksRequest", 'post: "/v1" body: "title"'),
        ("StreamBooks", "GetBookRequest", 'get: "/v1/{name}"'),
        ("GetBook", "GetBookRequest", 'get: "/v1/{name}" response_body: "author"'),
    ],
)
def test_an_annotation_that_cannot_be_served_stops_the_start(name: str, request_type: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"{name} has an annotation"):
        Routes(library(**{name: (request_type, rule)}))


def test_the_contract_has_the_routes_that_it_promises() -> None:
    routes = Routes(*tasks_pb2.DESCRIPTOR.services_by_name.values())
    assert routes.allowed("/v1/tasks") == ["GET", "HEAD", "OPTIONS", "POST"]
    assert routes.allowed("/v1/tasks/1") == ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "PUT"]
    assert routes.allowed("/v1/tasks/1:complete") == ["OPTIONS", "POST"]
    assert routes.allowed("/v1/tasks/1/complete") == ["OPTIONS", "PATCH"]


# Queries


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("title=a+b%20c%26", {"title": "a b c&"}),
        ("title=", {}),
        (
            "pages=-7&copies=7&edition=7&sold=18446744073709551615",
            {"pages": -7, "copies": "7", "edition": 7, "sold": "18446744073709551615"},
        ),
        ("price=1.5&weight=-2e3", {"price": 1.5, "weight": -2000.0}),
        ("lent=true", {"lent": True}),
        ("lent=T", {"lent": True}),
        ("lent=0", {}),
        ("kind=KIND_NOVEL", {"kind": "KIND_NOVEL"}),
        ("kind=2", {"kind": "KIND_ATLAS"}),
        ("cover=AAH_", {"cover": "AAH/"}),
        ("printedAt=2026-11-21T10:15:02Z", {"printed_at": "2026-11-21T10:15:02Z"}),
        ("printed_at=2026-11-21T10:15:02.5%2B01:00", {"printed_at": "2026-11-21T09:15:02.500Z"}),
        ("lent_for=1.5s", {"lent_for": "1.500s"}),
        ("tags=a&tags=&tags=b", {"tags": ["a", "", "b"]}),
        ("ratings=1&ratings=2&kinds=KIND_ATLAS&kinds=1", {"ratings": [1, 2], "kinds": ["KIND_ATLAS", "KIND_NOVEL"]}),
        (
            "author.name=A&author.address.city=B&author.born=1",
            {"author": {"name": "A", "born": 1, "address": {"city": "B"}}},
        ),
        ("author.address.lines=1&author.address.lines=2", {"author": {"address": {"lines": ["1", "2"]}}}),
        ("stars=5", {"stars": 5}),
        ("shown=title,printed_at,lentFor", {"shown": "title,printedAt,lentFor"}),
        ("shown=*", {"shown": "*"}),
        ("", {}),
        ("&&", {}),
    ],
)
def test_a_query_fills_fields_in_either_spelling(query: str, fields: dict[str, Any]) -> None:
    assert read("GET", f"/v1/books?{query}") == ("SearchBooks", fields)


WHOLE = "must be a number ({})"


@pytest.mark.parametrize(
    ("query", "violations"),
    [
        ("colour=red", {"colour": "is not a parameter of this method"}),
        ("author.colour=red", {"author.colour": "is not a parameter of this method"}),
        ("title.x=1", {"title.x": "is not a parameter of this method"}),
        ("tags.x=1", {"tags.x": "is not a parameter of this method"}),
        ("authors.name=1", {"authors.name": "is not a parameter of this method"}),
        ("printed_at.seconds=1", {"printed_at.seconds": "is not a parameter of this method"}),
        ("Title=a", {"Title": "is not a parameter of this method"}),
        ("=a", {"": "is not a parameter of this method"}),
        ("a%00%0Ab=", {"a\\x00\\nb": "is not a parameter of this method"}),
        (f"{'x' * 99}=", {f"{'x' * 40}…": "is not a parameter of this method"}),
        ("title=a&title=b", {"title": "is given more than once"}),
        ("shown=title&shown=pages", {"shown": "is given more than once"}),
        ("printed_at=2026-11-21T10:15:02Z&printedAt=", {"printedAt": "is given more than once"}),
        ("pages=", {"pages": WHOLE.format("int32")}),
        ("pages=1_0", {"pages": WHOLE.format("int32")}),
        ("pages=%EF%BC%91", {"pages": WHOLE.format("int32")}),
        ("pages=+1", {"pages": WHOLE.format("int32")}),
        (f"pages={2**31}", {"pages": WHOLE.format("int32")}),
        (f"pages={'9' * 5000}", {"pages": WHOLE.format("int32")}),
        ("edition=-1", {"edition": WHOLE.format("uint32")}),
        (f"copies={2**63}", {"copies": WHOLE.format("int64")}),
        ("lent=yes", {"lent": "must be true or false"}),
        ("price=1_0", {"price": "must be a number (double)"}),
        ("price=x", {"price": "must be a number (double)"}),
        ("kind=novel", {"kind": "must be KIND_UNSPECIFIED or KIND_NOVEL or KIND_ATLAS"}),
        ("ratings=1&ratings=x", {"ratings": "must be a list, each of it a number (int32)"}),
        ("printed_at=yesterday", {"printed_at": "must be a time as in 2026-11-21T10:15:02Z"}),
        ("lent_for=1", {"lent_for": "must be seconds as in 1.5s"}),
        ("author=A", {"author": "must be an object"}),
        ("authors=A", {"authors": "must be a list, each of it an object"}),
        ("notes=A", {"notes": "must be an object"}),
        (
            "pages=x&colour=red&lent=2",
            {
                "colour": "is not a parameter of this method",
                "pages": WHOLE.format("int32"),
                "lent": "must be true or false",
            },
        ),
    ],
)
def test_a_query_is_refused_by_what_is_wrong_with_it(query: str, violations: dict[str, str]) -> None:
    assert wrong("GET", f"/v1/books?{query}") == violations


@pytest.mark.parametrize(
    "query",
    ["title=%ff", "title=%zz", "title=%4", "%=", "title=\xe9", "&".join(["tags=a"] * 101)],
    ids=["escape", "no escape", "half an escape", "in a name", "raw", "many"],
)
def test_a_query_that_is_no_query_is_refused(query: str) -> None:
    assert refusal("GET", f"/v1/books?{query}").reason == "QUERY_MALFORMED"


@pytest.mark.parametrize("query", ["name=x", "name="])
def test_the_path_is_not_overruled_by_the_query(query: str) -> None:
    [field] = wrong("GET", f"{BOOK}?{query}")
    assert field == "name"


@pytest.mark.parametrize("query", ["book.title=x", "book.name=x", "book=x", "book.author.name=x"])
def test_the_body_and_the_path_are_not_overruled_by_the_query(query: str) -> None:
    [why] = wrong("PATCH", f"{BOOK}?{query}", {}).values()
    assert why == "is not taken from the query, but from the path or the body"


def test_a_body_that_is_the_whole_request_leaves_nothing_to_the_query() -> None:
    [why] = wrong("POST", f"{BOOK}:archive?title=x", {}).values()
    assert why == "is not taken from the query, but from the path or the body"


# Bodies


def test_a_body_fills_the_field_that_is_named_or_the_whole_request() -> None:
    created = {"parent": "shelves/1", "book": {"title": "T"}, "book_id": "7"}
    assert read("POST", "/v1/shelves/1/books?bookId=7", {"title": "T"}) == ("CreateBook", created)
    archived = {"name": "shelves/1/books/2", "title": "T", "printed_at": "2026-11-21T10:15:02Z"}
    body = {"title": "T", "name": "another", "printedAt": "2026-11-21T10:15:02Z"}
    assert read("POST", f"{BOOK}:archive", body) == ("ArchiveBook", archived), "the path has the last word"


def test_a_body_may_spell_names_in_either_way_and_enums_by_name_or_number() -> None:
    for body in ({"printedAt": "2026-11-21T10:15:02Z"}, {"printed_at": "2026-11-21T10:15:02Z"}):
        assert read("POST", f"{BOOK}:archive", body)[1]["printed_at"] == "2026-11-21T10:15:02Z"
    for kind in ("KIND_ATLAS", 2):
        assert read("POST", f"{BOOK}:archive", {"kind": kind})[1]["kind"] == "KIND_ATLAS"
    assert wrong("POST", f"{BOOK}:archive", {"printedAt": None, "printed_at": None}) == {
        "printed_at": "is given twice, in both spellings"
    }


@pytest.mark.parametrize(
    ("body", "violations"),
    [
        ({"colour": 1}, {"colour": "is not a field of ArchiveBookRequest"}),
        (
            {"author": {"colour": 1}, "authors": [{"name": 2}]},
            {"author": "must be an object", "authors": "must be a list, each of it an object"},
        ),
        ({"title": 1}, {"title": "must be a string of Unicode characters"}),
        ({"title": "\ud800"}, {"title": "must be a string of Unicode characters"}),
        ({"lent": "true"}, {"lent": "must be true or false"}),
        ({"lent": 1}, {"lent": "must be true or false"}),
        ({"pages": True}, {"pages": WHOLE.format("int32")}),
        ({"pages": 1.5}, {"pages": WHOLE.format("int32")}),
        ({"pages": 2**31}, {"pages": WHOLE.format("int32")}),
        ({"edition": -1}, {"edition": WHOLE.format("uint32")}),
        ({"kind": True}, {"kind": "must be KIND_UNSPECIFIED or KIND_NOVEL or KIND_ATLAS"}),
        ({"kind": 1.5}, {"kind": "must be KIND_UNSPECIFIED or KIND_NOVEL or KIND_ATLAS"}),
        *(({"kind": kind}, {"kind": "must be KIND_UNSPECIFIED or KIND_NOVEL or KIND_ATLAS"}) for kind in ("1", "")),
        ({"kind": "novel"}, {"kind": "must be KIND_UNSPECIFIED or KIND_NOVEL or KIND_ATLAS"}),
        ({"price": "x"}, {"price": "must be a number (double)"}),
        ({"cover": 1}, {"cover": "must be base64"}),
        ({"tags": "a"}, {"tags": "must be a list, each of it a string of Unicode characters"}),
        ({"tags": [1]}, {"tags": "must be a list, each of it a string of Unicode characters"}),
        ({"tags": [None]}, {"tags": "must be a list, each of it a string of Unicode characters"}),
        (
            {"kinds": ["KIND_NOVEL", True]},
            {"kinds": "must be a list, each of it KIND_UNSPECIFIED or KIND_NOVEL or KIND_ATLAS"},
        ),
        ({"author": "A"}, {"author": "must be an object"}),
        ({"author": [{}]}, {"author": "must be an object"}),
        ({"authors": {"name": "A"}}, {"authors": "must be a list, each of it an object"}),
        ({"authors": [{"colour": 1}]}, {"authors": "must be a list, each of it an object"}),
        ({"printedAt": 1}, {"printed_at": "must be a time as in 2026-11-21T10:15:02Z"}),
        ({"printedAt": "2026-02-30T00:00:00Z"}, {"printed_at": "must be a time as in 2026-11-21T10:15:02Z"}),
        ({"notes": 1}, {"notes": "must be an object"}),
        (
            {"title": 1, "x": 2, "pages": "3"},
            {"title": "must be a string of Unicode characters", "x": "is not a field of ArchiveBookRequest"},
        ),
    ],
)
def test_a_body_is_refused_by_what_is_wrong_with_it(body: dict[str, Any], violations: dict[str, str]) -> None:
    assert wrong("POST", f"{BOOK}:archive", body) == violations


def test_null_is_as_good_as_nothing() -> None:
    body = dict.fromkeys(("title", "pages", "author", "tags", "kind", "printedAt"))
    assert read("POST", f"{BOOK}:archive", body) == ("ArchiveBook", {"name": "shelves/1/books/2"})


def test_what_belongs_into_the_query_is_not_looked_for_in_a_body() -> None:
    assert read("DELETE", "/v1/archive/1", {}) == ("ArchiveBook", {"name": "1"})
    assert refusal("DELETE", "/v1/archive/1", {"title": "x"}).reason == "BODY_UNEXPECTED"
    assert refusal("GET", "/v1/books", {"title": "x"}).reason == "BODY_UNEXPECTED"


# Masks


@pytest.mark.parametrize(
    ("body", "mask"),
    [
        ({"title": "T"}, "title"),
        ({"title": "T", "printedAt": None}, "title,printedAt"),
        ({"author": {"name": "A", "address": {"lines": []}}}, "author"),
        ({"author": None, "tags": ["a"]}, "author,tags"),
        ({"authors": [{"name": "A"}], "notes": {"a": 1}}, "authors,notes"),
        ({}, ""),
    ],
)
def test_a_patch_without_a_mask_writes_what_its_body_names(body: dict[str, Any], mask: str) -> None:
    _, fields = read("PATCH", BOOK, body)
    assert fields.get("update_mask") == mask
    assert fields["book"]["name"] == "shelves/1/books/2"


def test_a_mask_that_is_given_stays() -> None:
    assert read("PATCH", f"{BOOK}?updateMask=title,printed_at", {"pages": 1})[1]["update_mask"] == "title,printedAt"
    assert read("PUT", f"{BOOK}?update_mask=title", {"pages": 1})[1]["update_mask"] == "title"


def test_a_put_replaces() -> None:
    assert read("PUT", BOOK, {"title": "T"})[1]["update_mask"] == "*"


# Answers


def to_json(message: Message) -> Any:
    return json.loads(responses.to_json(message))


def test_an_answer_has_what_is_zero_and_not_what_is_absent() -> None:
    assert to_json(message_of(LIBRARY, "Author", {"name": "Åsa"})) == {"name": "Åsa", "born": 0}
    many = to_json(message_of(LIBRARY, "Book", {"copies": 2**53 + 1, "kind": 2, "kinds": [1, 7], "cover": "//4="}))
    assert many["copies"] == str(2**53 + 1)
    assert (many["kind"], many["kinds"], many["cover"], many["tags"]) == ("KIND_ATLAS", ["KIND_NOVEL", 7], "//4=", [])
