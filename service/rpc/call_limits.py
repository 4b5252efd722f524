"""Limits on unary calls: their number, their duration, and the responses that clients have not taken yet."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Hashable
from typing import Any

from grpc.aio import EOF

from service.call_record import current_call
from service.errors import DeadlineExceeded, MessageMissing, Overloaded, RequestError
from service.rpc.admission import Admission
from service.rpc.drain import Drain
from service.rpc.handlers import Behaviour, Context, Reader
from service.rpc.in_process import InProcessContext

MAX_RECEIVING = 4096
"""Most calls whose message has not arrived yet; one more ends the one that has waited longest."""
MAX_UNSENT_RESPONSES = 8192
"""Most finished calls whose response the client has not taken yet."""
MAX_UNSENT_BYTES = 32 * 2**20
"""Most bytes of large responses that wait to be taken; of all connections together."""
MAX_UNSENT_BYTES_PER_CONNECTION = 8 * 2**20

# Responses up to this size are counted, but not weighed: weighing costs a look at the peer's address.
_LARGE = 64 * 2**10


class CallLimits:
    """Bounds the number of calls in flight, the duration of each, and the responses that wait to be taken.

    At most `max_in_flight` calls run; Admission lets others wait, and refuses those that wait for too long. A call
    without a deadline, or with a later one, ends after `max_seconds` from the arrival of its headers; one whose message
    has not arrived by then fails with MessageMissing. Calls without a message do not count as in flight: they would
    keep others out. There may be MAX_RECEIVING of them, and the newest may stay, because a message follows its headers
    at once unless somebody withholds it.

    A client that opens no flow-control window leaves its responses in this server's memory until its connection
    reaches the maximum age. So finished calls count until gRPC has sent their response, and large responses are
    weighed: what would exceed MAX_UNSENT_BYTES, or MAX_UNSENT_BYTES_PER_CONNECTION, fails with Overloaded instead.
    """

    def __init__(self, *, max_in_flight: int, max_seconds: float, drain: Drain | None = None) -> None:
        self.admission = Admission(max_in_flight)
        self.max_seconds = max_seconds
        self._overdue: dict[asyncio.Task[Any], type[RequestError]] = {}
        self._receiving: dict[asyncio.Task[Any], None] = {}  # in the order of arrival
        self._calls = drain or Drain()
        self._running = 0
        self._unsent_bytes: Counter[str] = Counter()

    def apply(
        self,
        behaviour: Behaviour,
        read: Reader,
        serialize: Callable[[Any], bytes],
        owner: Callable[[], Hashable] = lambda: None,
    ) -> Behaviour:
        """Wrap a method so that it runs within the limits; `read` makes the request from the message's bytes.

        The response is serialized, so that its size is known; that of an in-process call is a message, as it is not
        sent from here. `owner` returns the user of the current call: calls that wait are admitted in turns.
        """

        async def limited(_requests: object, context: Any) -> Any:  # noqa: ANN401 - either context, any message
            if self._calls.at_most - self._running >= MAX_UNSENT_RESPONSES:
                self._refuse_if_unsent()
            seconds = self._seconds(context)
            task = asyncio.current_task()
            assert task is not None
            # Does what asyncio.timeout does, at a third of the cost.
            timer = asyncio.get_running_loop().call_later(seconds, self._cancel, task, DeadlineExceeded)
            received = entered = False
            self._running += 1
            self._calls.start()
            try:
                self._await_message(task)
                message = await context.read()
                self._receiving.pop(task, None)
                if message is EOF:
                    raise MessageMissing
                received = True
                if not self.admission.enter_at_once():
                    await self._enter(owner(), len(message))
                entered = True
                response = await behaviour(read(message, context), context)
                if isinstance(context, InProcessContext):
                    return response
                message = serialize(response)
                if len(message) > _LARGE:
                    self._weigh_until_sent(len(message), context, task)
                self._calls.count_until_sent(task)
                return message
            except asyncio.CancelledError:
                if (error := self._overdue.get(task)) and task.uncancel() == 0:
                    raise (MessageMissing if not received and seconds == self.max_seconds else error) from None
                raise
            finally:
                timer.cancel()
                self._receiving.pop(task, None)
                self._running -= 1
                self._overdue.pop(task, None)
                self._calls.end()
                if entered:
                    self.admission.leave()

        return limited

    async def _enter(self, owner: Hashable, size: int) -> None:
        """Wait for admission."""
        record = current_call.get()
        if record:
            record.enter_queue(time.perf_counter())
        await self.admission.enter(owner, size)
        if record:
            record.leave_queue(time.perf_counter())

    def _refuse_if_unsent(self) -> None:
        if self._calls.in_flight - self._running >= MAX_UNSENT_RESPONSES:
            raise Overloaded

    def _await_message(self, task: asyncio.Task[Any]) -> None:
        """Note that a call waits for its message, and end the one that has waited longest if they are too many."""
        if len(self._receiving) >= MAX_RECEIVING:
            self._cancel(next(iter(self._receiving)), MessageMissing)
        self._receiving[task] = None

    def apply_streaming(self, behaviour: Behaviour, read: Reader) -> Behaviour:
        """Wrap a method that streams responses: only the wait for its request has a limit, because a watch lasts."""

        async def limited(_requests: object, context: Context) -> AsyncIterator[Any]:
            try:
                async with asyncio.timeout(self.max_seconds):
                    message = await context.read()
            except TimeoutError:
                raise MessageMissing from None
            if message is EOF:
                raise MessageMissing
            async for response in behaviour(read(message, context), context):
                yield response

        return limited

    def _seconds(self, context: Context) -> float:
        """Time limit of this call (s). Raises DeadlineExceeded if its deadline has already passed."""
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded
        return min(remaining or self.max_seconds, self.max_seconds)

    def _cancel(self, task: asyncio.Task[Any], error: type[RequestError]) -> None:
        self._receiving.pop(task, None)
        self._overdue[task] = error
        task.cancel()

    def _weigh_until_sent(self, size: int, context: Context, task: asyncio.Task[Any]) -> None:
        waiting, peer = self._unsent_bytes, context.peer()
        if waiting.total() + size > MAX_UNSENT_BYTES or waiting[peer] + size > MAX_UNSENT_BYTES_PER_CONNECTION:
            raise Overloaded
        waiting[peer] += size

        def sent(_task: asyncio.Task[Any]) -> None:
            waiting[peer] -= size
            if not waiting[peer]:
                del waiting[peer]

        # On the task, not on the context: that would make a reference cycle, and keep the call from being freed.
        task.add_done_callback(sent)
