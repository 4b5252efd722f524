"""ListTasks through a real server and the generated client."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from grpc import StatusCode
from taskwell.v1 import tasks_pb2

from service.tasks import validation
from tests.rpc.given import Rows
from tests.running import COMPLETE, INCOMPLETE, Api, refused

UNSPECIFIED = tasks_pb2.TASK_STATUS_UNSPECIFIED
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # of URL-safe base64


def create(api: Api, count: int) -> list[tasks_pb2.Task]:
    """Make tasks at once and answer them newest first."""
    requests = [tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title=f"Task {number}")) for number in range(count)]
    calls = [api.start("CreateTask", request) for request in requests]
    tasks: list[tasks_pb2.Task] = [call.result() for call in calls]
    return sorted(tasks, key=lambda task: (task.create_time.ToNanoseconds(), task.id), reverse=True)


def page_sizes(api: Api, **fields: Any) -> list[int]:
    """The number of tasks on each page of a walk."""
    sizes: list[int] = []
    token = ""
    while not sizes or token:
        page = api.list(page_token=token, **fields)
        sizes.append(len(page.tasks))
        token = page.next_page_token
    return sizes


def test_a_user_without_tasks_gets_an_empty_list(api: Api) -> None:
    assert tasks_pb2.ListTasksResponse() == api.list()
    api.delete(api.create().id)
    assert tasks_pb2.ListTasksResponse() == api.list()


# Order and filter


@pytest.mark.parametrize("order_by", ["", "create_time desc", "  create_time   desc ", "create_time\tdesc\n", " "])
def test_the_newest_come_first_unless_asked_otherwise(api: Api, order_by: str) -> None:
    tasks = create(api, 7)
    assert tasks == list(api.list(order_by=order_by).tasks)
    assert tasks == list(api.walk(order_by=order_by, page_size=2))


@pytest.mark.parametrize("order_by", ["create_time", " create_time\n"])
def test_the_oldest_come_first_when_asked_for(api: Api, order_by: str) -> None:
    tasks = create(api, 7)[::-1]
    assert tasks == list(api.list(order_by=order_by).tasks)
    assert tasks == list(api.walk(order_by=order_by, page_size=2))


def test_tasks_of_one_moment_are_ordered_by_id_in_the_direction_of_the_list(api: Api, rows: Rows) -> None:
    moment = datetime.now(UTC)
    rows.insert_user(api.user)
    ids = sorted(rows.insert_tasks(api.user, [moment] * 9))
    assert ids == [task.id for task in api.list(order_by="create_time").tasks]
    assert ids == [task.id for task in api.walk(order_by="create_time", page_size=2)]
    assert ids[::-1] == [task.id for task in api.list().tasks]
    assert ids[::-1] == [task.id for task in api.walk(page_size=2)]


def test_changing_a_task_does_not_move_it(api: Api) -> None:
    tasks = create(api, 3)
    api.complete(tasks[2].id)
    api.update(tasks[1].id, title="Changed")
    assert [task.id for task in tasks] == [task.id for task in api.list().tasks]


@pytest.mark.parametrize(
    "order_by",
    [
        "create_time asc",
        "create_time DESC",
        "CREATE_TIME",
        "desc",
        "id",
        "title",
        "update_time desc",
        "create_time desc, id",
        "create_time,id",
        "create_time desc desc",
        "created_at desc",
        "createTime",
        "create_time;",
        "\0",
        "create_time\0",
        "1; DROP TABLE tasks",
        pytest.param("create_time " * 1000, id="long"),
    ],
)
def test_any_other_order_is_refused(api: Api, order_by: str) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.list(order_by=order_by)
    assert refusal.fields == ["order_by"]
    assert len(refusal.message) < 300


@pytest.mark.parametrize("page_size", [0, 1, 2])
def test_a_status_lists_the_tasks_of_that_status(api: Api, page_size: int) -> None:
    tasks = create(api, 5)
    done = {task.id for task in tasks[::2]}
    for task_id in done:
        api.complete(task_id)
    now = [api.get(task.id) for task in tasks]
    assert now == list(api.walk(page_size=page_size, status=UNSPECIFIED))
    assert [task for task in now if task.id in done] == list(api.walk(page_size=page_size, status=COMPLETE))
    assert [task for task in now if task.id not in done] == list(api.walk(page_size=page_size, status=INCOMPLETE))


def test_a_reopened_task_is_listed_as_incomplete(api: Api) -> None:
    task = api.create()
    api.complete(task.id)
    reopened = api.update(task.id, status=INCOMPLETE)
    assert [reopened] == list(api.list(status=INCOMPLETE).tasks)
    assert not api.list(status=COMPLETE).tasks


@pytest.mark.parametrize("status", [3, -1, 2**31 - 1, -(2**31)])
def test_an_unknown_status_is_refused(api: Api, status: int) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.list(status=status)
    assert refusal.fields == ["status"]


def test_everything_that_is_wrong_is_said_at_once(api: Api) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.list(page_size=-1, status=7, order_by="id")
    assert refusal.fields == ["page_size", "status", "order_by"]


# Pages


@pytest.mark.parametrize(
    ("count", "page_size", "expected"),
    [
        (1, 1, [1]),
        (3, 1, [1, 1, 1]),
        (6, 3, [3, 3]),
        (7, 3, [3, 3, 1]),
        (2, 3, [2]),
        (50, 0, [50]),
        (51, 0, [50, 1]),
        (100, 0, [50, 50]),
    ],
)
@pytest.mark.parametrize("order_by", ["", "create_time"])
def test_pages_are_full_but_the_last_which_alone_has_no_token(
    api: Api, order_by: str, count: int, page_size: int, expected: list[int]
) -> None:
    tasks = create(api, count)
    assert expected == page_sizes(api, page_size=page_size, order_by=order_by)
    assert tasks[:: -1 if order_by else 1] == list(api.walk(page_size=page_size, order_by=order_by))


def test_more_than_a_thousand_tasks_do_not_come_on_one_page(api: Api, rows: Rows) -> None:
    now = datetime.now(UTC)
    rows.insert_user(api.user)
    ids = rows.insert_tasks(api.user, [now - timedelta(milliseconds=number) for number in range(1001)])
    for page_size in (1000, 1001, 2**31 - 1):
        assert page_sizes(api, page_size=page_size) == [1000, 1]
    assert page_sizes(api) == [50] * 20 + [1]
    assert ids == [task.id for task in api.walk(page_size=2000)]


def test_the_largest_page_reaches_a_client_with_grpcs_own_limits(api: Api, rows: Rows) -> None:
    rows.insert_user(api.user)
    ids = rows.insert_tasks(api.user, [datetime.now(UTC)] * 1000, description="😀" * 5000)
    assert set(ids) == {task.id for task in api.walk(page_size=1000)}


def test_the_page_size_may_change_between_pages(api: Api) -> None:
    tasks = create(api, 10)
    met: list[tasks_pb2.Task] = []
    token = ""
    for page_size in (3, 1, 4, 1000):
        page = api.list(page_size=page_size, page_token=token)
        met += page.tasks
        token = page.next_page_token
    assert tasks == met
    assert token == ""


@pytest.mark.parametrize("page_size", [-1, -50, -(2**31)])
def test_a_negative_page_size_is_refused(api: Api, page_size: int) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.list(page_size=page_size)
    assert refusal.fields == ["page_size"]


# Tokens


@pytest.fixture
def token(api: Api) -> str:
    """The token of the second page of a list of three tasks."""
    create(api, 3)
    return api.list(page_size=1).next_page_token


def test_a_token_can_be_used_again(api: Api, token: str) -> None:
    assert api.list(page_token=token) == api.list(page_token=token)
    assert len(api.list(page_token=token).tasks) == 2


def test_a_token_outlives_the_task_that_it_stands_behind(api: Api, token: str) -> None:
    first, *others = api.list().tasks
    api.delete(first.id)
    assert others == list(api.list(page_token=token).tasks)


def test_a_token_whose_tasks_are_all_gone_leads_to_an_empty_last_page(api: Api, token: str) -> None:
    for task in api.list().tasks:
        api.delete(task.id)
    assert tasks_pb2.ListTasksResponse() == api.list(page_token=token)


def test_a_token_is_good_for_the_same_order_however_it_is_written(api: Api, token: str) -> None:
    assert api.list(page_token=token) == api.list(page_token=token, order_by=" create_time  desc")


MALFORMED: dict[str, Callable[[str], str]] = {
    "a space": lambda _: " ",
    "a word": lambda _: "next",
    "a number": lambda _: "50",
    "an id": lambda _: "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234",
    "JSON": lambda _: '{"offset": 50}',
    "zeros": lambda token: "A" * len(token),
    "ones": lambda token: "_" * len(token),
    "NUL": lambda token: "\0" * len(token),
    "beyond ASCII": lambda token: "é" * len(token),
    "long": lambda token: token * 1000,
    "one character short": lambda token: token[:-1],
    "without the first": lambda token: token[1:],
    "one character more": lambda token: token + "A",
    "NUL behind it": lambda token: token + "\0",
    "a line break behind it": lambda token: token + "\n",
    "a space before it": lambda token: " " + token,
    "padded": lambda token: token + "=",
    "twice": lambda token: token * 2,
    "quoted": lambda token: f'"{token}"',
    "in upper case": str.upper,
    "backwards": lambda token: token[::-1],
}


@pytest.mark.parametrize("mangle", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_token_is_refused(api: Api, token: str, mangle: Callable[[str], str]) -> None:
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        api.list(page_token=mangle(token))
    assert refusal.fields == ["page_token"]


def test_a_token_with_any_one_bit_changed_is_refused(api: Api, token: str) -> None:
    def tampered() -> Iterator[str]:
        for position, digit in enumerate(token):
            for bit in range(6):
                yield token[:position] + DIGITS[DIGITS.index(digit) ^ 1 << bit] + token[position + 1 :]

    requests = [tasks_pb2.ListTasksRequest(page_token=each) for each in tampered()]
    for call in [api.start("ListTasks", request) for request in requests]:
        with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
            call.result()
        assert refusal.fields == ["page_token"]


def test_a_token_of_another_user_is_refused(api: Api, token: str) -> None:
    other = api.as_user()
    create(other, 3)
    with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
        other.list(page_token=token)
    assert refusal.fields == ["page_token"]


LISTS: Sequence[dict[str, Any]] = (
    {},
    {"status": INCOMPLETE},
    {"status": COMPLETE},
    {"order_by": "create_time"},
    {"order_by": "create_time", "status": INCOMPLETE},
    {"order_by": "create_time", "status": COMPLETE},
)


def test_a_token_of_another_filter_or_order_is_refused(api: Api) -> None:
    tasks = create(api, 4)
    for task in tasks[:2]:
        api.complete(task.id)
    for made_for in LISTS:
        token = api.list(page_size=1, **made_for).next_page_token
        for used_with in LISTS:
            if used_with == made_for:
                assert api.list(page_token=token, **used_with).tasks
                continue
            with refused(StatusCode.INVALID_ARGUMENT, "INVALID_FIELD") as refusal:
                api.list(page_token=token, **used_with)
            assert refusal.fields == ["page_token"]


def test_pages_of_more_tasks_than_are_read_at_once_follow_each_other(api: Api) -> None:
    calls = [
        api.start("CreateTask", tasks_pb2.CreateTaskRequest(task=tasks_pb2.Task(title=f"Task {number}")))
        for number in range(2 * validation.PAGE_CHUNK + 2)
    ]
    made = {call.result().id for call in calls}
    for page_size in (
        validation.PAGE_CHUNK - 1,
        validation.PAGE_CHUNK,
        validation.PAGE_CHUNK + 1,
        2 * validation.PAGE_CHUNK + 1,
        1000,
    ):
        walked = [task.id for task in api.walk(page_size=page_size)]
        assert len(walked) == len(made)
        assert set(walked) == made
        assert len(api.list(page_size=page_size).tasks) == min(page_size, len(made))
