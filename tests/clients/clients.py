"""Both clients behind one interface, so that each test runs with both: awaitable results are waited for."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from taskwell_client import AsyncClient, Client, connect, connect_async

Connect = Callable[..., Any]
"""`connect`, or a function whose clients have the same interface."""


class Awaited:
    """An AsyncClient behind the interface of Client."""

    def __init__(self, client: AsyncClient, runner: asyncio.Runner) -> None:
        self._client = client
        self._runner = runner

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            answer = method(*arguments, **options)
            if isinstance(answer, AsyncClient):
                return Awaited(answer, self._runner)
            if isinstance(answer, Coroutine):
                return self._runner.run(answer)
            return self._walked(answer)

        return call

    def _walked(self, generator: Any) -> Iterator[Any]:
        while True:
            try:
                yield self._runner.run(anext(generator))
            except StopAsyncIteration:
                return


@contextmanager
def connecting(kind: str) -> Iterator[Connect]:
    """Yield a function like `connect`, of either kind, and close its clients at the end."""
    clients: list[Client | Awaited] = []
    with asyncio.Runner() as runner:

        def connected(*arguments: Any, **options: Any) -> Client | Awaited:
            if kind == "sync":
                clients.append(connect(*arguments, **options))
            else:
                clients.append(Awaited(runner.run(_connect(arguments, options)), runner))
            return clients[-1]

        try:
            yield connected
        finally:
            for client in clients:
                client.close()


async def _connect(arguments: Any, options: Any) -> AsyncClient:
    return connect_async(*arguments, **options)
