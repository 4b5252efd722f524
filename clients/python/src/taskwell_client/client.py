"""The sync and the asyncio client, and the functions that make them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Coroutine, Iterator, Sequence
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
from google.protobuf.empty_pb2 import Empty
from taskwell.v1.tasks_pb2 import ListTasksRequest, ListTasksResponse, Task

from taskwell_client import arguments
from taskwell_client.caller import AsyncToken, Token
from taskwell_client.channels import Option, Secure, credentials_of, open_channels
from taskwell_client.connection import CLOSED, Call, Connection, unusable
from taskwell_client.errors import ResourceExhausted, TaskwellError
from taskwell_client.overload import Attempts
from taskwell_client.targets import is_local
from taskwell_client.tasks import Tasks
from taskwell_client.tracing import with_trace

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT = 10.0
"""Default timeout of a call (s)."""

ClientT = TypeVar("ClientT", "Client", "AsyncClient")


class Client(
    Tasks[
        Task,
        None,
        ListTasksResponse,
        Iterator[Task],
        list[Task | TaskwellError],
        list[TaskwellError | None],
    ]
):
    """The sync client for the tasks of one user. Threads may share it."""

    def with_token(self, token: Token) -> Self:
        """The same client, over the same connections, for the user of this token."""
        return self._as(self._bearing(token, may_await=False))

    def close(self) -> None:
        """Close the connections, also those of clients that share them. Calls in flight fail."""
        for channel in self._connection.close():
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: Call, timeout: float | None) -> Any:  # noqa: ANN401 - of every method
        return self._repeat(call, Attempts(self._seconds(timeout)))

    def _repeat(self, call: Call, attempts: Attempts) -> Any:  # noqa: ANN401 - of every method
        while True:
            try:
                return self._attempt(call, attempts.left())
            except ResourceExhausted as error:
                pause = attempts.pause(error)
            time.sleep(pause)

    def _attempt(self, call: Call, seconds: float) -> Any:  # noqa: ANN401 - of every method
        method = self._connection.method(call)
        try:
            metadata = with_trace(self._caller.metadata())
            return _response(method(call.request, timeout=seconds, metadata=metadata))
        except grpc.RpcError as error:
            raise self._connection.error_of(error) from error
        except ValueError as error:  # of grpc: another thread has closed the channel
            if self._connection.is_closed:
                raise unusable(CLOSED) from error
            raise

    def _calls(self, calls: Sequence[Call], max_in_flight: int, timeout: float | None) -> list[Any]:
        seconds = self._seconds(timeout)
        free = threading.Semaphore(arguments.integer("max_in_flight", max_in_flight, 1, 1000))
        started: list[grpc.Future[Any] | TaskwellError] = []
        attempts: list[Attempts] = []
        try:
            for call in calls:
                free.acquire()  # ends: every call in flight has a deadline
                attempts.append(Attempts(seconds))
                started.append(self._started(call, seconds, free))
            return [self._outcome(*each) for each in zip(calls, started, attempts, strict=True)]
        finally:
            for each in started:
                if isinstance(each, grpc.Future):
                    each.cancel()  # does nothing to one that has ended

    def _started(self, call: Call, seconds: float, free: threading.Semaphore) -> grpc.Future[Any] | TaskwellError:
        """Start a call, and release the semaphore when it has ended."""
        try:
            metadata = with_trace(self._caller.metadata())
            future: grpc.Future[Any] = self._connection.method(call).future(
                call.request, timeout=seconds, metadata=metadata
            )
        except (TaskwellError, ValueError) as error:
            free.release()
            if isinstance(error, TaskwellError):
                return error
            if self._connection.is_closed:
                return unusable(CLOSED)
            raise
        future.add_done_callback(lambda _: free.release())
        return future

    def _outcome(
        self,
        call: Call,
        started: grpc.Future[Any] | TaskwellError,
        attempts: Attempts,
    ) -> Any:  # noqa: ANN401 - of every method
        if isinstance(started, TaskwellError):
            return started
        try:
            return _response(started.result())
        except grpc.RpcError as error:
            failed = self._connection.error_of(error)
        except grpc.FutureCancelledError:
            return unusable(CLOSED)
        if not isinstance(failed, ResourceExhausted):
            return failed
        try:
            time.sleep(attempts.pause(failed))
            return self._repeat(call, attempts)
        except TaskwellError as error:
            return error

    def _walk(self, request: ListTasksRequest, timeout: float | None) -> Iterator[Task]:
        while True:
            page = self._call(Call("ListTasks", request), timeout)
            yield from page.tasks
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


class AsyncClient(
    Tasks[
        Coroutine[Any, Any, Task],
        Coroutine[Any, Any, None],
        Coroutine[Any, Any, ListTasksResponse],
        AsyncGenerator[Task, None],
        Coroutine[Any, Any, list[Task | TaskwellError]],
        Coroutine[Any, Any, list[TaskwellError | None]],
    ]
):
    """The asyncio client for the tasks of one user: `await` each method, iterate `list` with `async for`."""

    def with_token(self, token: AsyncToken) -> Self:
        """The same client, over the same connections, for the user of this token."""
        return self._as(self._bearing(token, may_await=True))

    async def close(self) -> None:
        """Close the connections, also those of clients that share them. Calls in flight fail."""
        for channel in self._connection.close():
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, call: Call, timeout: float | None) -> Any:  # noqa: ANN401 - of every method
        attempts = Attempts(self._seconds(timeout))
        while True:
            try:
                return await self._attempt(call, attempts.left())
            except ResourceExhausted as error:
                pause = attempts.pause(error)
            await asyncio.sleep(pause)

    async def _attempt(self, call: Call, seconds: float) -> Any:  # noqa: ANN401 - of every method
        metadata = self._caller.metadata()
        if not isinstance(metadata, tuple):
            metadata = await metadata
        method = self._connection.method(call)
        try:
            return _response(await method(call.request, timeout=seconds, metadata=with_trace(metadata)))
        except grpc.RpcError as error:
            raise self._connection.error_of(error) from error
        except asyncio.CancelledError as error:
            # grpc.aio ends the calls of a channel that is closed as if their task had been cancelled.
            if self._connection.is_closed and not _is_cancelled():
                raise unusable(CLOSED) from error
            raise

    async def _calls(self, calls: Sequence[Call], max_in_flight: int, timeout: float | None) -> list[Any]:
        free = asyncio.Semaphore(arguments.integer("max_in_flight", max_in_flight, 1, 1000))

        async def outcome(call: Call) -> Any:  # noqa: ANN401 - of every method
            async with free:
                try:
                    return await self._call(call, timeout)
                except TaskwellError as error:
                    return error

        self._seconds(timeout)
        tasks = [asyncio.ensure_future(outcome(call)) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # does nothing to one that has ended

    async def _walk(self, request: ListTasksRequest, timeout: float | None) -> AsyncGenerator[Task, None]:
        while True:
            page = await self._call(Call("ListTasks", request), timeout)
            for task in page.tasks:
                yield task
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token


def connect(
    target: str,
    *,
    user: str | None = None,
    token: Token | None = None,
    tls: Secure = False,
    insecure: bool = False,
    timeout: float = TIMEOUT,
    channels: int = 1,
    options: Sequence[Option] = (),
) -> Client:
    """Make a client for a gRPC target: `host:port`, `dns:///host:port`, `ipv4:10.0.0.1:443,10.0.0.2:443`.

        with connect("127.0.0.1:50051", user="alice") as client:
            task = client.create("Buy milk", "Two litres")

    `user` is for services that trust their callers to name the user, `token` (or a function that returns one) for
    services that verify tokens; with neither, begin with `client.as_user(...)` or `client.with_token(...)`. `tls` is
    True for a server certificate signed by a public CA, TLS(...) for others. A token is never sent over plain text to
    another machine unless `insecure` allows it. `timeout` (s) is the default for each call.

    `channels` is the number of connections to each address; calls take them in turn. One is enough for most programs;
    two or three for each of the server's workers let a busy client use all of them. `options` are gRPC channel
    arguments, and override ours. The client connects with its first call, and belongs to the process that makes it: a
    client may be made before a fork, but used on one side only.

    Raises TypeError and ValueError for invalid arguments, and OSError for files of `tls` that cannot be read.
    """
    client = Client(_connection(grpc, target, tls, channels, options, lambda: None), timeout=timeout, insecure=insecure)
    return _of_caller(client, user, token)


def connect_async(
    target: str,
    *,
    user: str | None = None,
    token: AsyncToken | None = None,
    tls: Secure = False,
    insecure: bool = False,
    timeout: float = TIMEOUT,
    channels: int = 1,
    options: Sequence[Option] = (),
) -> AsyncClient:
    """Make an asyncio client. It may be made anywhere, and belongs to the event loop of its first call.

        async with connect_async("127.0.0.1:50051", user="alice") as client:
            task = await client.create("Buy milk", "Two litres")

    The arguments are those of `connect`; the function that returns the token may also be a coroutine function.
    """
    client = AsyncClient(
        _connection(grpc.aio, target, tls, channels, options, asyncio.get_running_loop),
        timeout=timeout,
        insecure=insecure,
    )
    return _of_caller(client, user, token)


def _connection(
    grpc_module: ModuleType,
    target: str,
    tls: Secure,
    channels: int,
    options: Sequence[Option],
    loop: Any,  # noqa: ANN401
) -> Connection:
    """Check the arguments of a connection, and read the files of `tls`."""
    name, credentials = arguments.target(target), credentials_of(tls)
    count, given = arguments.integer("channels", channels, 1, 1000), arguments.options(options)
    is_private = credentials is not None or is_local(name)
    return Connection(
        name, lambda: open_channels(grpc_module, name, credentials, count, given), loop, is_private=is_private
    )


def _of_caller(client: ClientT, user: str | None, token: Any) -> ClientT:  # noqa: ANN401 - of either kind
    if user is not None and token is not None:
        raise ValueError("give a user or a token, not both: a service believes the one or the other")
    if token is not None:
        return client.with_token(token)
    return client if user is None else client.as_user(user)


def _response(message: Any) -> Any:  # noqa: ANN401 - of every method
    return None if isinstance(message, Empty) else message


def _is_cancelled() -> bool:
    """True if the current task itself is being cancelled. Python 3.10 cannot tell."""
    task = asyncio.current_task()
    return not hasattr(task, "cancelling") or (task is not None and task.cancelling() > 0)
