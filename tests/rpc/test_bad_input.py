"""Two thousand requests on each database that are valid, nearly valid or wild: none may break the service.

Which ones is for chance to say, in every run anew; `make soak-requests` sends ten times as many.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import uuid4

import pytest
import structlog
from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import StatusCode
from hypothesis import Phase, Verbosity, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from taskwell.v1 import tasks_pb2

from tests.methods import METHODS, request_type, well_formed
from tests.rpc.given import raw_call
from tests.running import Api, refusal_of

ROUNDS, EXAMPLES, AT_ONCE = 4, settings().max_examples // 10, 50
# Every request changes what the next ones meet, so to send them again, or fewer of them, would prove nothing (and take
# minutes). The request that failed is named by us, and not among all those of its example by hypothesis.
ONCE = settings(phases=[Phase.generate], verbosity=Verbosity.quiet)

Call: TypeAlias = tuple[str, Message]

# What no answer may hold: another user's data, and the store's inner life. Made here and not written out, because
# hypothesis tries the texts that it finds in a module.
SECRET = uuid4().hex
PRIVATE = ("SELECT", "INSERT", "UPDATE tasks", "DELETE FROM", "sqlite", "psycopg", "sqlalchemy", "Traceback")
# A fault of ours is INTERNAL or UNKNOWN; and a request alone must not make the service UNAVAILABLE either.
ANSWERS = {
    StatusCode.OK,
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.ALREADY_EXISTS,
    StatusCode.ABORTED,
    StatusCode.RESOURCE_EXHAUSTED,
}


@st.composite
def mostly(draw: st.DrawFn, usual: SearchStrategy[Any], *odd: SearchStrategy[Any]) -> Any:
    """The usual, three times in four; a request with one thing wrong gets further than one with everything wrong."""
    return draw(usual if draw(st.integers(0, 3)) < 3 else st.one_of(*odd))


INT32 = st.one_of(st.integers(-3, 60), st.sampled_from([999, 1000, 1001, -(2**31), 2**31 - 1]))
STATUSES = mostly(st.sampled_from([0, 0, 1, 2]), INT32)
TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            *("", " ", "\t\u2003", "\0", "a\0b", "'", '"', "\\", "%", "{}", "[1]", "null", "\r\n", "\x1b[31m", "\x7f"),
            *("\ufeff", "\ufffe", "\U0010ffff", "e\u0301", "\u202eabc", "'; DROP TABLE tasks; --", "\\u0000"),
            *("x" * 255, "x" * 256, "😀" * 255, "😀" * 256, "x" * 5000, "x" * 5001, "😀" * 5001, "x" * 70_000),
        ]
    ),
)
TITLES = mostly(st.just("Buy milk"), TEXTS)
PATHS = mostly(st.sampled_from(["title", "description", "status", "*", "id", "etag", "create_time.seconds"]), TEXTS)
MASKS = st.one_of(st.none(), st.builds(FieldMask, paths=st.lists(PATHS, max_size=3)))
MOMENTS = st.one_of(
    st.none(), st.builds(Timestamp, seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1))
)
ORDERS = mostly(st.sampled_from(["", "create_time", "create_time desc", " create_time\tdesc "]), TEXTS)


@dataclass(frozen=True, slots=True)
class Known:
    """The ids, etags and tokens that a caller could know and send."""

    ids: list[str]
    etags: list[str]
    tokens: list[str]
    request_ids: list[str]

    def requests(self) -> SearchStrategy[Call]:
        """Any request of any method."""
        known_ids, known_tokens = st.sampled_from(self.ids), st.sampled_from(self.tokens)
        ids = mostly(known_ids, known_ids.flatmap(mutated), st.uuids().map(str), TEXTS)
        etags = mostly(st.sampled_from(["", *self.etags]), st.integers(0).map("{:x}".format), TEXTS)
        tokens = mostly(st.sampled_from(["", *self.tokens]), known_tokens.flatmap(mutated), TEXTS)
        request_ids = mostly(st.sampled_from(["", *self.request_ids]), st.uuids().map(str), TEXTS)
        fields: dict[str, SearchStrategy[Any]] = {
            "id": ids,
            "title": TITLES,
            "description": TEXTS,
            "status": STATUSES,
            "etag": etags,
            "page_size": INT32,
            "page_token": tokens,
            "request_id": request_ids,
            "order_by": ORDERS,
            "update_mask": MASKS,
            "allow_missing": st.booleans(),
        }
        for field in tasks_pb2.Task.DESCRIPTOR.fields:
            if field.message_type is Timestamp.DESCRIPTOR:
                fields[field.name] = MOMENTS
        fields["task"] = mostly(messages(tasks_pb2.Task.DESCRIPTOR, fields), st.none())
        return st.one_of([st.tuples(st.just(method), messages(request_type(method), fields)) for method in METHODS])


def messages(message: Descriptor, fields: Mapping[str, SearchStrategy[Any]]) -> SearchStrategy[Message]:
    """Messages of this type, each of its fields as the strategy of its name has it."""
    return st.builds(GetMessageClass(message), **{field.name: fields[field.name] for field in message.fields})


def mutated(text: str) -> SearchStrategy[str]:
    """The text with one character left out, put in or changed."""
    return st.builds(
        lambda at, length, character: text[:at] + character + text[at + length :],
        st.integers(0, len(text)),
        st.integers(0, 1),
        st.one_of(st.just(""), st.sampled_from("0aAzZ-_=\n\0é"), st.characters(codec="utf-8")),
    )


def harmless(method: str, request: bytes, call: Any) -> None:
    """Assert that a response is no fault of ours, and contains no private data."""
    code = call.code()
    assert code in ANSWERS, f"{method} of {request!r} was answered with {code}: {call.details()}"
    if code is StatusCode.OK:
        answer = call.result()
        told = answer if isinstance(answer, bytes) else answer.SerializeToString()
        private = [SECRET]
    else:
        refusal = refusal_of(call)
        assert refusal.reason
        assert refusal.message
        assert (code is StatusCode.RESOURCE_EXHAUSTED) == (refusal.reason == "MESSAGE_TOO_LARGE")
        told = b"".join(value for name, value in call.trailing_metadata() if name != "x-request-id")
        private = [SECRET, *PRIVATE]
    repeated = [word for word in private if word.encode() in told and word.encode() not in request]
    assert repeated == [], f"{method} of {request!r} was answered with {told!r}"


@pytest.fixture(scope="module", autouse=True)
def _faults_alone_are_logged() -> Iterator[None]:
    """A line for each of thousands of refusals would take a fifth of the time, and hide the one that matters."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    yield
    structlog.configure(**before)


@pytest.fixture
def victim(api: Api) -> Api:
    """Another user, with a task that is nobody's affair."""
    victim = api.as_user()
    victim.create(SECRET, SECRET)
    victim.create(SECRET, SECRET)
    return victim


@pytest.mark.parametrize("_round", range(ROUNDS))
def test_no_request_breaks_the_service_or_makes_it_talkative(api: Api, victim: Api, _round: int) -> None:
    before = victim.list()
    request_ids = ["0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234", "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901235"]
    tasks = [api.create(f"Task {number}") for number in range(12)]
    known = Known(
        ids=[task.id for task in (*tasks, *before.tasks)],
        etags=["1", "2", "3", "7fffffffffffffff", "8000000000000000", "f" * 15],
        tokens=[
            *(api.list(page_size=1, order_by=order).next_page_token for order in ("", "create_time")),
            api.list(page_size=2, status=1).next_page_token,
            victim.list(page_size=1).next_page_token,
        ],
        request_ids=request_ids,
    )

    @settings(ONCE, max_examples=EXAMPLES)
    @given(st.lists(known.requests(), min_size=AT_ONCE, max_size=AT_ONCE))
    def send(calls: list[Call]) -> None:
        for (method, request), call in [(each, api.start(*each)) for each in calls]:
            harmless(method, request.SerializeToString(), call)

    send()
    assert before == victim.list()


@pytest.mark.parametrize("method", METHODS)
def test_no_bytes_break_a_method(api: Api, victim: Api, method: str) -> None:
    before = victim.list()
    message = well_formed(method, api.create().id).SerializeToString()

    @settings(ONCE, max_examples=EXAMPLES // 3)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=64),
                st.builds(
                    lambda at, length, inserted: message[:at] + inserted + message[at + length :],
                    st.integers(0, len(message)),
                    st.integers(0, 2),
                    st.binary(max_size=3),
                ),
            ),
            min_size=AT_ONCE,
            max_size=AT_ONCE,
        )
    )
    def send(requests: list[bytes]) -> None:
        for request, call in [(each, raw_call(api.channel, method, each, user=api.user)) for each in requests]:
            harmless(method, request, call)

    send()
    assert before == victim.list()
