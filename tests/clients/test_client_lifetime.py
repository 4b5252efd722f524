"""The life of a Python client: made at import, forked, used in an event loop, closed; its repr and its help."""

import asyncio
import importlib.metadata
import pydoc
import re
import subprocess
import sys
import threading
import typing
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import taskwell_client
from grpc import StatusCode
from taskwell_client import AsyncClient, Client, ClientUnusable, Task, TaskwellError, connect_async
from taskwell_client import connect as connect_sync
from taskwell_client.channels import Channels, InTurn
from taskwell_client.connection import Call, Connection

from tests.clients.clients import Connect
from tests.clients.scripted import Scripted, scripted_server
from tests.waiting import eventually, until


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as server:
        yield server


def test_an_asyncio_client_may_be_made_where_no_event_loop_runs(server: Scripted) -> None:
    def make() -> None:
        client = connect_async(server.address, user="alice")
        call = client.get("1")  # and its coroutines too
        assert asyncio.run(closed_after(client, call)) == Task()

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert [method for method, _ in server.attempts] == ["GetTask"]


async def closed_after(client: AsyncClient, call: Coroutine[Any, Any, Task]) -> Task:
    async with client:
        return await call


def test_an_asyncio_client_in_another_event_loop_raises_at_once(server: Scripted) -> None:
    client = connect_async(server.address, user="alice")

    async def closing() -> None:
        await client.close()

    assert asyncio.run(client_get(client)) == Task()
    with pytest.raises(ClientUnusable, match=r"another event loop.*one client per event loop"):
        asyncio.run(client_get(client))
    asyncio.run(closing())
    with pytest.raises(ClientUnusable, match="closed"):
        asyncio.run(client_get(client))
    assert len(server.attempts) == 1


async def client_get(client: AsyncClient) -> Task:
    return await client.get("1")


FORKING = """
import asyncio, os, sys, threading
from taskwell_client import ClientUnusable, connect, connect_async

kind, use, target = sys.argv[1:]
if kind == "sync":
    client = connect(target, user="alice")
    def call():
        return client.get("1", timeout=60)
else:
    client = connect_async(target, user="alice")
    runner = asyncio.new_event_loop()
    def call():
        return runner.run_until_complete(client.get("1", timeout=60))
if use == "used":
    call()
child = os.fork()
if child == 0:
    try:
        call()
        print("it worked", flush=True)
    except ClientUnusable as error:
        print(error, flush=True)
    client.as_user("bob")
    if kind == "sync":
        client.close()
    else:
        runner.run_until_complete(client.close())
    os._exit(0)
os.waitpid(child, 0)
call()
print("and in the parent", flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["sync", "asyncio"])
@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("unused", "it worked"),
        (
            "used",
            "this client was used by another process, which this one was forked from, and gRPC connections do not "
            "survive a fork: make the client in this process, for example in gunicorn's post_fork or Celery's "
            "worker_process_init",
        ),
    ],
)
def test_a_client_that_was_used_before_a_fork_raises_at_once_behind_it(
    server: Scripted, kind: str, use: str, said: str
) -> None:
    command = [sys.executable, "-c", FORKING, kind, use, server.address]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.splitlines() == [said, "and in the parent"], done.stderr


def test_a_closed_client_raises_a_taskwell_error(connect: Connect, server: Scripted) -> None:
    client = connect(server.address, user="alice")
    other = client.as_user("bob")
    assert client.get("1") == Task()
    client.close()
    client.close()
    for attempt in (
        lambda: client.get("1"),
        lambda: other.create("Buy milk"),
        lambda: list(client.list()),
        lambda: client.as_user("carol").delete("1"),
    ):
        with pytest.raises(ClientUnusable, match="this client is closed") as caught:
            attempt()
        assert isinstance(caught.value, TaskwellError)
        assert caught.value.code is StatusCode.FAILED_PRECONDITION
    outcomes = client.get_many(["1", "2"])
    assert [type(outcome) for outcome in outcomes] == [ClientUnusable] * 2
    never_used = connect(server.address, user="alice")
    never_used.close()
    with pytest.raises(ClientUnusable):
        never_used.get("1")


def hold(server: Scripted) -> threading.Event:
    """Have the server hold its calls until the event is set."""
    release = threading.Event()

    def held(_context: Any) -> bytes:
        release.wait(60)
        return b""

    server.answers(held)
    return release


def test_calls_in_flight_of_a_sync_client_that_is_closed_say_so(server: Scripted) -> None:
    release = hold(server)
    client = connect_sync(server.address, user="alice", timeout=60)
    raised: list[Any] = []

    def call() -> None:
        with pytest.raises(ClientUnusable, match="closed") as caught:
            client.get("1")
        raised.append(caught.value)

    def calls() -> None:
        raised.extend(client.get_many(["1"]))

    threads = [threading.Thread(target=call), threading.Thread(target=calls)]
    for thread in threads:
        thread.start()
    until(lambda: len(server.attempts) == 2)
    client.close()
    for thread in threads:
        thread.join()
    assert [type(error) for error in raised] == [ClientUnusable] * 2
    release.set()


async def test_calls_in_flight_of_an_asyncio_client_that_is_closed_say_so(server: Scripted) -> None:
    release = hold(server)
    client = connect_async(server.address, user="alice", timeout=60)
    calls = [asyncio.ensure_future(client.get("1")) for _ in range(2)]
    await eventually(lambda: len(server.attempts) == 2)
    calls[1].cancel()
    await eventually(calls[1].done)
    assert calls[1].cancelled()  # by this program, which must see its own cancellation
    await client.close()
    with pytest.raises(ClientUnusable, match="closed"):
        await calls[0]
    release.set()


async def test_a_cancelled_call_is_not_sent_again(server: Scripted) -> None:
    release = hold(server)
    async with connect_async(server.address, user="alice", timeout=60) as client:
        call = asyncio.ensure_future(client.get("1"))
        await eventually(lambda: len(server.attempts) == 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()
        server.answers(b"")
        await client.get("2")
        assert len(server.attempts) == 1


def test_its_repr_says_where_it_leads_and_shows_no_token(connect: Connect) -> None:
    client = connect("localhost:1")
    name = "Client" if isinstance(client, Client) else "AsyncClient"
    shown = repr if isinstance(client, Client) else lambda awaited: repr(awaited._client)
    assert shown(client) == f"{name}('localhost:1')"
    assert shown(client.as_user("alice")) == f"{name}('localhost:1', user='alice')"
    assert shown(client.with_token("secret")) == f"{name}('localhost:1', token=...)"
    client.close()
    assert shown(client) == f"{name}('localhost:1', closed)"


def test_the_package_has_its_version() -> None:
    assert taskwell_client.__version__ == importlib.metadata.version("taskwell-client")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_help_shows_the_types_of_results(kind: type) -> None:
    shown = pydoc.plain(pydoc.render_doc(kind))
    assert not re.findall(r"\b(?:Task|None|Page|Iterator|Outcomes|Deletions)T\b", shown)
    for method, result in {
        "create": "taskwell.v1.tasks_pb2.Task",
        "page": "taskwell.v1.tasks_pb2.ListTasksResponse",
        "get_many": "list[taskwell.v1.tasks_pb2.Task | taskwell_client.errors.TaskwellError]",
    }.items():
        [line] = [line for line in shown.splitlines() if line.strip(" |").startswith(f"{method}(")]
        assert f"{result}" in line
        assert ("Coroutine[" in line) == (kind is AsyncClient)
        assert typing.get_origin(getattr(kind, method).__annotations__["return"]) is not typing.TypeVar


def test_threads_that_open_a_client_at_once_share_its_connection() -> None:
    both_open = threading.Barrier(2)

    class Channel:
        def unary_unary(self, *_: Any, **__: Any) -> object:
            return object()

    def opened() -> Channels:
        both_open.wait(60)
        return Channels(InTurn([Channel()]), InTurn([Channel()]))

    connection = Connection("scripted", opened, lambda: None, is_private=True)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(connection.method, [Call("GetTask", Task())] * 2)
    assert first is second
