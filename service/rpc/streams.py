"""Long-lived streams, and their end at shutdown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from service.errors import ShuttingDown
from service.rpc.handlers import Behaviour, Context, yields_responses


class OpenStreams:
    """Tracks health watches and reflection streams, to end them at shutdown.

    They do not end on their own: without this, one open watch would make each shutdown use its whole grace period.
    """

    def __init__(self) -> None:
        self._open: set[asyncio.Task[Any]] = set()
        self._closed = False

    def close(self) -> None:
        """End all open streams with UNAVAILABLE, so that their clients reconnect elsewhere, and refuse new ones."""
        self._closed = True
        for task in self._open:
            task.cancel()

    def track(self, behaviour: Behaviour) -> Behaviour:
        """Wrap a method so that `close` ends its calls."""

        async def respond(request: Any, context: Context) -> None:  # noqa: ANN401 - any message
            with self._tracked():
                await behaviour(request, context)

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            with self._tracked():
                async for response in behaviour(request, context):
                    yield response

        return stream if yields_responses(behaviour) else respond

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ShuttingDown

    @contextmanager
    def _tracked(self) -> Iterator[None]:
        self._refuse_if_closed()
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._closed:
                task.uncancel()
                raise ShuttingDown from None
            raise
        finally:
            self._open.discard(task)
