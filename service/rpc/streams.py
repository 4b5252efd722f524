"""Calls that last: ended when the server shuts down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

from service.errors import ShuttingDown
from service.rpc.handlers import Behaviour, Context, generates


class OpenStreams:
    """Ends the calls that would never end by themselves, health watches and reflection, when the server shuts down.

    Without it, one open watch would hold up every shutdown for the whole of its grace period.
    """

    def __init__(self) -> None:
        self._open: set[asyncio.Task[Any]] = set()
        self._ending = False

    def end(self) -> None:
        """End them all, with UNAVAILABLE, so that their clients turn to another server."""
        self._ending = True
        for task in self._open:
            task.cancel()

    def ended(self, behaviour: Behaviour) -> Behaviour:
        """The same, but ended by `end`, and refused from then on."""

        async def answer(request: Any, context: Context) -> None:  # noqa: ANN401 - any message
            with self._endable():
                await behaviour(request, context)

        async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            with self._endable():
                async for response in behaviour(request, context):
                    yield response

        return answer_many if generates(behaviour) else answer

    def _refuse_if_ending(self) -> None:
        if self._ending:
            raise ShuttingDown

    @contextmanager
    def _endable(self) -> Iterator[None]:
        self._refuse_if_ending()
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if self._ending:
                task.uncancel()
                raise ShuttingDown from None
            raise
        finally:
            self._open.discard(task)
