"""What happens to every call: its errors answered and its log line written, its limits kept, its caller found."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import structlog
from google.protobuf.message import DecodeError
from grpc import HandlerCallDetails, StatusCode
from grpc.aio import AbortError, ServerInterceptor
from grpc_status import rpc_status

from service.errors import (
    DeadlineExceeded,
    Internal,
    MessageMalformed,
    MessageTooLarge,
    MethodNotAllowed,
    MethodUnknown,
    Overloaded,
    RequestError,
    ShuttingDown,
)
from service.model import Caller
from service.rpc.handlers import (
    Behaviour,
    Context,
    Continuation,
    Handler,
    behaviour_of,
    generates,
    refusal,
    with_behaviour,
)
from service.rpc.policy import TASK_SERVICE, Access, require_scope
from service.rpc.status import CODES, status_of

_log = structlog.get_logger("rpc")
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)

# A refusal is the caller's affair and logged in passing; these say something about us.
_LOG_LEVELS = {
    StatusCode.INTERNAL: "error",
    StatusCode.UNAVAILABLE: "warning",
    StatusCode.RESOURCE_EXHAUSTED: "warning",
}


def current_caller() -> Caller:
    """The caller of the call that runs in this task. Raises MethodNotAllowed where none was asked for."""
    caller = _caller.get()
    if caller is None:
        raise MethodNotAllowed
    return caller


class Errors(ServerInterceptor):
    """Outermost. Turns whatever is raised into a status, by one table, and writes the call's log line.

    It decodes the requests as well: one that cannot be decoded, or is longer than `max_message_bytes`, is the caller's
    error, to be answered with details, where grpc by itself would call the first INTERNAL.
    """

    def __init__(self, *, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler:
        method = details.method
        started = time.perf_counter()
        try:
            handler = await continuation(details)
            if handler is None:
                raise MethodUnknown  # noqa: TRY301 - the one way out is below
        except Exception as error:  # noqa: BLE001 - nothing may get past the outermost
            failure = error

            async def refuse(context: Context) -> None:
                await self._answer(failure, method, context, started)

            return refusal(refuse)
        if method not in self._wrapped:
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        behaviour = behaviour_of(handler)
        decodes = not handler.request_streaming
        decode = handler.request_deserializer

        async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            started = time.perf_counter()
            try:
                response = await behaviour(self._decoded(decode, request) if decodes else request, context)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - nothing may get past the outermost
                await self._answer(error, method, context, started)
            else:
                _log.debug("rpc", method=method, code="OK", **_about(started))
                return response

        async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            started = time.perf_counter()
            try:
                async for response in behaviour(self._decoded(decode, request) if decodes else request, context):
                    yield response
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - nothing may get past the outermost
                await self._answer(error, method, context, started)

        return with_behaviour(handler, answer_many if generates(behaviour) else answer, decodes=decodes)

    def _decoded(self, decode: Callable[[bytes], Any] | None, raw: bytes) -> Any:  # noqa: ANN401 - any message
        if len(raw) > self._max_message_bytes:
            raise MessageTooLarge(size=len(raw), limit=self._max_message_bytes)
        try:
            return decode(raw) if decode else raw
        except DecodeError as error:
            raise MessageMalformed from error

    async def _answer(self, error: Exception, method: str, context: Context, started: float) -> None:
        """Abort the call with the status of this error."""
        cause: BaseException | None = error.__cause__
        if not isinstance(error, RequestError):
            error, cause = Internal(error_id=uuid.uuid4()), error
        code = CODES[type(error)]
        # The private side of the error: who reads the log may know what the caller may not.
        level = _LOG_LEVELS.get(code, "info")
        private = {"exc_info": cause} if code is StatusCode.INTERNAL else {"cause": repr(cause)} if cause else {}
        getattr(_log, level)(
            "rpc", method=method, code=code.name, reason=error.reason, message=str(error), **_about(started), **private
        )
        await context.abort_with_status(rpc_status.to_status(status_of(error)))


class Streams(ServerInterceptor):
    """Ends the calls that would never end by themselves, health watches and reflection, when the server shuts down.

    Without it, one open watch would hold up every shutdown for the whole of its grace period.
    """

    def __init__(self) -> None:
        self._wrapped: dict[str, Handler] = {}
        self._open: set[asyncio.Task[Any]] = set()
        self._ending = False

    def end(self) -> None:
        """End them all, with UNAVAILABLE, so that their clients turn to another server."""
        self._ending = True
        for task in self._open:
            task.cancel()

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or not handler.response_streaming:
            return handler
        if self._ending:
            raise ShuttingDown
        if details.method not in self._wrapped:
            self._wrapped[details.method] = with_behaviour(handler, self._ended(behaviour_of(handler)))
        return self._wrapped[details.method]

    def _ended(self, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> None:  # noqa: ANN401 - any message
            with self._endable():
                await behaviour(request, context)

        async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            with self._endable():
                async for response in behaviour(request, context):
                    yield response

        return answer_many if generates(behaviour) else answer

    @contextmanager
    def _endable(self) -> Iterator[None]:
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


class Limits(ServerInterceptor):
    """Bounds how many task calls are under way at once, and how long one may take.

    `max_in_flight` calls run or wait; one more is refused at once, since a queue without an end only moves the failure
    to where nobody sees it. `max_seconds` holds for calls that come without a deadline or with a later one. Health and
    reflection are not counted: a probe must be answered under load as well, and a watch lasts.
    """

    def __init__(self, *, max_in_flight: int, max_seconds: float) -> None:
        self._max_in_flight = max_in_flight
        self._max_seconds = max_seconds
        self._in_flight = 0
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None or not details.method.startswith(f"/{TASK_SERVICE}/"):
            return handler
        if details.method not in self._wrapped:
            self._wrapped[details.method] = with_behaviour(handler, self._limited(behaviour_of(handler)))
        return self._wrapped[details.method]

    def _limited(self, behaviour: Behaviour) -> Behaviour:
        async def limited(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            if self._in_flight >= self._max_in_flight:
                raise Overloaded
            remaining = context.time_remaining()
            if remaining is not None and remaining <= 0:
                raise DeadlineExceeded
            self._in_flight += 1
            try:
                async with asyncio.timeout(min(remaining or self._max_seconds, self._max_seconds)) as scope:
                    return await behaviour(request, context)
            except TimeoutError:
                if scope.expired():
                    raise DeadlineExceeded from None
                raise
            finally:
                self._in_flight -= 1

        return limited


class Authentication(ServerInterceptor):
    """Innermost. Finds out who is calling, as the policy table asks for the method, before the request is looked at.

    `authenticate` makes a Caller of a call's metadata, at once or later, or raises a RequestError; `scopes` names the
    scope of each access that has one.
    """

    def __init__(
        self,
        policy: Mapping[str, Access],
        authenticate: Callable[[Any], Caller | Awaitable[Caller]],
        scopes: Mapping[Access, str],
    ) -> None:
        self._policy = policy
        self._authenticate = authenticate
        self._scopes = scopes

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None:
            return None
        match self._policy.get(details.method):
            case None:
                raise MethodNotAllowed
            case Access.OPEN:
                pass
            case access:
                caller = self._authenticate(details.invocation_metadata)
                if not isinstance(caller, Caller):
                    caller = await caller
                _caller.set(caller)
                require_scope(access, caller, self._scopes)
        return handler


def _about(started: float) -> dict[str, object]:
    """What every log line of a call tells besides its outcome."""
    caller = _caller.get()
    return {
        "user": caller.user_id if caller else None,
        "duration_ms": round((time.perf_counter() - started) * 1000, 2),
    }
