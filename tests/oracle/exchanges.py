"""The requests that both gateways get, one after the other, over every binding of the proto."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_NOBODY = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"
_REQUEST_ID = "0192f0c1-2d3e-7f4a-8b5c-aaaaaaaaaaaa"

WORDS = "words"
"""The difference of refusals that Envoy makes by itself: the status is the same, its body is a sentence of its own."""


@dataclass(frozen=True)
class Exchange:
    """One request. `{milk}` in the path is the id of the task kept under this name, `{milk_tail}` all but its first."""

    name: str
    verb: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    keep: str = ""
    """The name under which the id of the answered task is kept, or `token`."""

    differs: str = ""
    """The difference, in docs/guide/rest.md, that the answers to this request show; empty where they must be equal."""

    apart: bool = False
    """Sent by another user, because its effects differ as well: nothing that follows may meet them."""


def sends(name: str, verb: str, path: str, body: Any = None, **more: Any) -> Exchange:
    """A request with a body in JSON; bytes are sent as they are."""
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body, ensure_ascii=False).encode()
    return Exchange(name, verb, path, raw, **more)


CREATING = (
    sends("a title", "POST", "/v1/tasks", {"title": "Buy milk"}, keep="milk"),
    sends("a description", "POST", "/v1/tasks", {"title": "Call", "description": "Bob\nand Eve"}, keep="call"),
    sends("beyond ASCII", "POST", "/v1/tasks", {"title": "Käse 🧀 “quoted” \\ / <b>&amp;</b> \u2028"}, keep="cheese"),
    sends("escapes", "POST", "/v1/tasks", rb'{"title": "\u004dilk \ud83e\udd5b \" \\ \/ \b\f\n\r\t"}'),
    sends("a control character", "POST", "/v1/tasks", rb'{"title": "bell \u0007 and \u007f"}'),
    sends("255 code points beyond the BMP", "POST", "/v1/tasks", {"title": "🧀" * 255}),
    sends("256 code points", "POST", "/v1/tasks", {"title": "a" * 256}),
    sends("a status by name", "POST", "/v1/tasks", {"title": "Named", "status": "TASK_STATUS_INCOMPLETE"}),
    sends("a status by number", "POST", "/v1/tasks", {"title": "Numbered", "status": 1}),
    sends("a status that is null", "POST", "/v1/tasks", {"title": "Null", "status": None, "description": None}),
    sends(
        "a status of another name",
        "POST",
        "/v1/tasks",
        {"title": "Other", "status": "TASK_STATUS_LATER"},
        differs=WORDS,
    ),
    sends("a status of another number", "POST", "/v1/tasks", {"title": "Other", "status": 7}),
    sends("a complete task", "POST", "/v1/tasks", {"title": "Done", "status": "TASK_STATUS_COMPLETE"}),
    sends("what is output only", "POST", "/v1/tasks", {"title": "Mine", "id": _NOBODY, "etag": "9"}),
    sends("a time in lowerCamelCase", "POST", "/v1/tasks", {"title": "Time", "createTime": "2026-01-01T00:00:00Z"}),
    sends("a time in snake_case", "POST", "/v1/tasks", {"title": "Time", "create_time": "2026-01-01T00:00:00+02:00"}),
    sends("a time that is none", "POST", "/v1/tasks", {"title": "Time", "createTime": "yesterday"}, differs=WORDS),
    sends(
        "a task of the other user", "POST", "/v1/tasks", {"title": "A", "description": "B"}, keep="spare", apart=True
    ),
    sends("nothing in the body", "POST", "/v1/tasks", {}),
    sends("no body", "POST", "/v1/tasks", differs="no object"),
    sends("an empty title", "POST", "/v1/tasks", {"title": ""}),
    sends("a title that is null", "POST", "/v1/tasks", {"title": None}),
    sends("a title of white space", "POST", "/v1/tasks", {"title": " \t\u3000"}),
    sends("a title with NUL", "POST", "/v1/tasks", {"title": "a\0b"}),
    sends("a title that is a number", "POST", "/v1/tasks", {"title": 12}, differs=WORDS),
    sends("a title that is a list", "POST", "/v1/tasks", {"title": ["Buy milk"]}, differs=WORDS),
    sends("half a surrogate pair", "POST", "/v1/tasks", rb'{"title": "half \ud83e"}', differs=WORDS),
    sends("bytes that are not UTF-8", "POST", "/v1/tasks", b'{"title": "K\xe4se"}', differs=WORDS),
    sends(
        "an unknown member",
        "POST",
        "/v1/tasks",
        {"title": "Buy milk", "colour": "white"},
        differs="unknown members",
        apart=True,
    ),
    sends("a member twice", "POST", "/v1/tasks", b'{"title": "One", "title": "Two"}', differs="loose JSON", apart=True),
    sends("JSON that ends early", "POST", "/v1/tasks", b'{"title": "Buy milk"', differs=WORDS),
    sends("something behind the JSON", "POST", "/v1/tasks", b'{"title": "Buy milk"} and more', differs=WORDS),
    sends("a comma too many", "POST", "/v1/tasks", b'{"title": "Buy milk",}', differs="loose JSON", apart=True),
    sends("a list as body", "POST", "/v1/tasks", [{"title": "Buy milk"}], differs=WORDS),
    sends("null as body", "POST", "/v1/tasks", b"null", differs="no object"),
    sends("a request id", "POST", f"/v1/tasks?requestId={_REQUEST_ID}", {"title": "Once"}, keep="once"),
    sends("the same again", "POST", f"/v1/tasks?requestId={_REQUEST_ID}", {"title": "Once"}),
    sends("the same in snake_case", "POST", f"/v1/tasks?request_id={_REQUEST_ID}", {"title": "Once"}),
    sends("a request id reused", "POST", f"/v1/tasks?requestId={_REQUEST_ID}", {"title": "Twice"}),
    sends("a request id that is none", "POST", "/v1/tasks?requestId=mine", {"title": "Once"}),
    sends(
        "a field of the body in the query",
        "POST",
        "/v1/tasks?task.title=Query",
        {"title": "Body"},
        differs="bound fields",
        apart=True,
    ),
)

LISTING = (
    sends("the first page", "GET", "/v1/tasks?pageSize=2", keep="token"),
    sends("the next page", "GET", "/v1/tasks?pageSize=2&pageToken={token}"),
    sends("a token with another order", "GET", "/v1/tasks?pageToken={token}&orderBy=create_time"),
    sends("a token that is none", "GET", "/v1/tasks?pageToken=here"),
    sends("a page size in snake_case", "GET", "/v1/tasks?page_size=1"),
    sends("a page size of 0", "GET", "/v1/tasks?pageSize=0"),
    sends("a page size that is negative", "GET", "/v1/tasks?pageSize=-1"),
    sends("a page size that is no number", "GET", "/v1/tasks?pageSize=many", differs=WORDS),
    sends("a page size with a fraction", "GET", "/v1/tasks?pageSize=1.5", differs=WORDS),
    sends("a page size beyond 32 bits", "GET", "/v1/tasks?pageSize=4294967297", differs=WORDS),
    sends("a page size that is empty", "GET", "/v1/tasks?pageSize=", differs=WORDS),
    sends("a page size twice", "GET", "/v1/tasks?pageSize=1&pageSize=2", differs="twice"),
    sends("a status by name in the query", "GET", "/v1/tasks?status=TASK_STATUS_COMPLETE"),
    sends("a status by number in the query", "GET", "/v1/tasks?status=1&pageSize=1"),
    sends("a status of another name in the query", "GET", "/v1/tasks?status=LATER", differs=WORDS),
    sends("oldest first", "GET", "/v1/tasks?orderBy=create_time&pageSize=2"),
    sends("newest first, a plus for the space", "GET", "/v1/tasks?orderBy=create_time+desc&pageSize=1", differs="plus"),
    sends("newest first, %20 for the space", "GET", "/v1/tasks?orderBy=create_time%20desc&pageSize=1"),
    sends("an order that there is not", "GET", "/v1/tasks?orderBy=title"),
    sends("an unknown parameter", "GET", "/v1/tasks?colour=white", differs=WORDS),
    sends("a query of nothing", "GET", "/v1/tasks?&&pageSize=1"),
)

GETTING = (
    sends("a task", "GET", "/v1/tasks/{milk}"),
    sends("its id percent-encoded", "GET", "/v1/tasks/%30{milk_tail}"),
    sends("a task that there is not", "GET", f"/v1/tasks/{_NOBODY}"),
    sends("an id that is none", "GET", "/v1/tasks/milk"),
    sends("an id with a percent-encoded slash", "GET", "/v1/tasks/a%2Fb"),
    sends("an id with a percent sign alone", "GET", "/v1/tasks/100%", differs="broken escapes"),
    sends("the id in the query as well", "GET", "/v1/tasks/{milk}?id={call}", differs="bound fields"),
    sends("an unknown parameter of a task", "GET", "/v1/tasks/{milk}?colour=white", differs=WORDS),
    sends("a slash at the end", "GET", "/v1/tasks/{milk}/", differs="slash at the end"),
    sends("no caller", "GET", "/v1/tasks/{milk}", headers={"x-user-id": ""}),
    sends("another caller", "GET", "/v1/tasks/{milk}", headers={"x-user-id": "eve"}),
    sends("a caller that cannot be", "GET", "/v1/tasks/{milk}", headers={"x-user-id": "two words"}),
)

UPDATING = (
    sends("a title, no mask", "PATCH", "/v1/tasks/{milk}", {"title": "Buy oat milk"}),
    sends("the same title, no change", "PATCH", "/v1/tasks/{milk}", {"title": "Buy oat milk"}),
    sends("a mask", "PATCH", "/v1/tasks/{call}?updateMask=title", {"title": "Call Bob", "description": "ignored"}),
    sends("a mask in snake_case", "PATCH", "/v1/tasks/{call}?update_mask=title", {"title": "Call Eve"}),
    sends("a mask of two", "PATCH", "/v1/tasks/{milk}?updateMask=title,description", {"title": "Milk"}),
    sends("a mask that clears", "PATCH", "/v1/tasks/{call}?updateMask=description", {}),
    sends("a mask that clears the title", "PATCH", "/v1/tasks/{call}?updateMask=title", {}),
    sends("a mask of everything", "PATCH", "/v1/tasks/{call}?updateMask=*", {"title": "All", "description": "New"}),
    sends("a mask of what is output only", "PATCH", "/v1/tasks/{call}?updateMask=createTime", {"title": "All"}),
    sends("a mask of an unknown field", "PATCH", "/v1/tasks/{call}?updateMask=colour", {"title": "All"}),
    sends(
        "a description that is empty, no mask",
        "PATCH",
        "/v1/tasks/{spare}",
        {"description": ""},
        differs="mask from the body",
        apart=True,
    ),
    sends(
        "a title and an empty description, no mask",
        "PATCH",
        "/v1/tasks/{spare}",
        {"title": "A", "description": ""},
        differs="mask from the body",
        apart=True,
    ),
    sends("no change at all", "PATCH", "/v1/tasks/{milk}", {}),
    sends(
        "another id in the body",
        "PATCH",
        "/v1/tasks/{spare}",
        {"id": _NOBODY, "title": "Path"},
        differs="id in the body",
        apart=True,
    ),
    sends("an etag in the body", "PATCH", "/v1/tasks/{once}", {"title": "Fresh", "etag": "1"}),
    sends("a stale etag in the body", "PATCH", "/v1/tasks/{once}", {"title": "Stale", "etag": "1"}),
    sends("an update of a task that there is not", "PATCH", f"/v1/tasks/{_NOBODY}", {"title": "Nobody's"}),
    sends("all of it by PUT", "PUT", "/v1/tasks/{cheese}", {"title": "Cheese", "description": "Alp"}),
    sends("a title by PUT", "PUT", "/v1/tasks/{spare}", {"title": "Old cheese"}, differs="PUT replaces", apart=True),
    sends("no title by PUT", "PUT", "/v1/tasks/{spare}", {"description": "Old"}, differs="PUT replaces", apart=True),
    sends("a mask by PUT", "PUT", "/v1/tasks/{cheese}?updateMask=title", {"title": "New cheese"}),
)

COMPLETING = (
    sends("complete", "POST", "/v1/tasks/{milk}:complete"),
    sends("complete again", "POST", "/v1/tasks/{milk}:complete"),
    sends("complete, with an empty body", "POST", "/v1/tasks/{milk}:complete", {}),
    sends(
        "complete, with something in the body",
        "POST",
        "/v1/tasks/{milk}:complete",
        {"etag": "1"},
        differs="unexpected body",
    ),
    sends("complete by PATCH", "PATCH", "/v1/tasks/{call}/complete"),
    sends("complete, with an etag", "POST", "/v1/tasks/{cheese}:complete?etag=ff"),
    sends("complete a task that there is not", "POST", f"/v1/tasks/{_NOBODY}:complete"),
    sends("complete an id that is none", "PATCH", "/v1/tasks/milk/complete"),
    sends("complete tasks in a list", "GET", "/v1/tasks?status=TASK_STATUS_COMPLETE"),
    sends("reopen", "PATCH", "/v1/tasks/{milk}", {"status": "TASK_STATUS_INCOMPLETE"}),
    sends(
        "no status",
        "PATCH",
        "/v1/tasks/{spare}",
        {"title": "Milk", "status": "TASK_STATUS_UNSPECIFIED"},
        differs="mask from the body",
        apart=True,
    ),
    sends("another verb behind the colon", "POST", "/v1/tasks/{milk}:reopen", differs="405"),
)

DELETING = (
    sends("delete with a stale etag", "DELETE", "/v1/tasks/{once}?etag=1"),
    sends("delete", "DELETE", "/v1/tasks/{once}"),
    sends("delete again", "DELETE", "/v1/tasks/{once}"),
    sends("delete again, missing allowed", "DELETE", "/v1/tasks/{once}?allowMissing=true"),
    sends("delete again, in snake_case", "DELETE", "/v1/tasks/{once}?allow_missing=true"),
    sends("delete again, 1 for true", "DELETE", "/v1/tasks/{once}?allowMissing=1"),
    sends("delete again, missing not allowed", "DELETE", "/v1/tasks/{once}?allowMissing=false"),
    sends("delete with a truth that is none", "DELETE", "/v1/tasks/{milk}?allowMissing=perhaps", differs=WORDS),
)

ROUTING = (
    sends("a path that there is not", "GET", "/v1/notes", differs=WORDS),
    sends("a verb that the path does not have", "DELETE", "/v1/tasks", differs="405"),
    sends("a slash behind the collection", "GET", "/v1/tasks/", differs="slash at the end"),
    sends("two slashes", "GET", "//v1/tasks", differs=WORDS),
)

EXCHANGES: Sequence[Exchange] = (
    *(*CREATING, *LISTING, *GETTING, *UPDATING),
    *(*COMPLETING, *DELETING, *ROUTING),
)
