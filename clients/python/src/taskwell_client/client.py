"""The sync and the asyncio client, and the functions that make them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
from taskwell.v1.tasks_pb2 import ListTasksRequest, ListTasksResponse, Task

from taskwell_client.caller import AsyncToken, Token
from taskwell_client.channels import Option, Secure, open_channels
from taskwell_client.errors import error_of
from taskwell_client.tasks import Tasks

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT = 10.0
"""Default timeout of a call (s)."""


class Client(Tasks[Task, None, ListTasksResponse, Iterator[Task]]):
    """The sync client for the tasks of one user. Threads may share it."""

    def with_token(self, token: Token) -> Self:
        """The same client, over the same connections, for the user of this token."""
        return self._as(self._bearing(token))

    def close(self) -> None:
        """Close the connections, also those of clients that share them. Calls in flight fail."""
        for channel in self._channels:
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Any, timeout: float | None) -> Any:  # noqa: ANN401
        timeout = self._timeout if timeout is None else timeout
        try:
            return method(request, timeout=timeout, metadata=self._caller())
        except grpc.RpcError as error:
            raise error_of(error) from error

    def _tell(self, method: Callable[..., Any], request: Any, timeout: float | None) -> None:  # noqa: ANN401
        self._call(method, request, timeout)

    def _walk(self, request: ListTasksRequest, timeout: float | None) -> Iterator[Task]:
        while True:
            page = self._call(self._retrying.ListTasks, request, timeout)
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
    ]
):
    """The asyncio client for the tasks of one user: `await` each method, iterate `list` with `async for`."""

    def with_token(self, token: AsyncToken) -> Self:
        """The same client, over the same connections, for the user of this token."""
        return self._as(self._bearing(token))

    async def close(self) -> None:
        """Close the connections, also those of clients that share them. Calls in flight fail."""
        for channel in self._channels:
            await channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, method: Callable[..., Any], request: Any, timeout: float | None) -> Any:  # noqa: ANN401
        timeout = self._timeout if timeout is None else timeout
        metadata = self._caller()
        if not isinstance(metadata, tuple):
            metadata = await metadata
        try:
            return await method(request, timeout=timeout, metadata=metadata)
        except grpc.RpcError as error:
            raise error_of(error) from error

    async def _tell(self, method: Callable[..., Any], request: Any, timeout: float | None) -> None:  # noqa: ANN401
        await self._call(method, request, timeout)

    async def _walk(self, request: ListTasksRequest, timeout: float | None) -> AsyncGenerator[Task, None]:
        while True:
            page = await self._call(self._retrying.ListTasks, request, timeout)
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
    arguments, and override ours. The client connects with its first call.

    Raises ValueError for invalid arguments, and OSError for files of `tls` that cannot be read.
    """
    client = Client(open_channels(grpc, target, tls, channels, options), timeout=timeout, insecure=insecure)
    _refuse_both(user, token)
    if token is not None:
        return client.with_token(token)
    return client if user is None else client.as_user(user)


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
    """Make an asyncio client. Call it inside a running event loop; the client belongs to that loop.

        async with connect_async("127.0.0.1:50051", user="alice") as client:
            task = await client.create("Buy milk", "Two litres")

    The arguments are those of `connect`; the function that returns the token may also be a coroutine function.
    """
    client = AsyncClient(open_channels(grpc.aio, target, tls, channels, options), timeout=timeout, insecure=insecure)
    _refuse_both(user, token)
    if token is not None:
        return client.with_token(token)
    return client if user is None else client.as_user(user)


def _refuse_both(user: object, token: object) -> None:
    if user is not None and token is not None:
        raise ValueError("give a user or a token, not both: a service believes the one or the other")
