"""What happens to every call: its errors answered and its log line written, its caller found, its limits kept."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

import structlog
from google.protobuf.message import DecodeError
from grpc import HandlerCallDetails, StatusCode
from grpc.aio import AbortError, ServerInterceptor
from grpc_status import rpc_status

from service.errors import (
    Internal,
    MessageMalformed,
    MessageTooLarge,
    MethodNotAllowed,
    MethodUnknown,
    Overloaded,
    RateLimited,
    RequestError,
    forget,
)
from service.model import Caller
from service.rpc.call_limits import CallLimits
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
from service.rpc.rate_limit import RefusalDelay
from service.rpc.status import CODES, status_of
from service.rpc.streams import OpenStreams

_log = structlog.get_logger("rpc")
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)

# A refusal is the caller's affair and logged in passing; these say something about us.
_LOG_LEVELS = {
    StatusCode.INTERNAL: "error",
    StatusCode.UNAVAILABLE: "warning",
    StatusCode.RESOURCE_EXHAUSTED: "warning",
}

Decoder: TypeAlias = Callable[[Any], Any]
Guard: TypeAlias = Callable[[Context], None]


class Observer(Protocol):
    """Is told what becomes of calls."""

    def on_call(self, method: str, code: str, seconds: float) -> None:
        """A call has ended: its full name, the name of its status code, how long it took (s)."""

    def on_overload(self) -> None:
        """A call was refused because there are too many."""

    def on_batch(self, operation: str, size: int) -> None:
        """A set of calls goes to the database together."""


class _Unobserved:
    def on_call(self, method: str, code: str, seconds: float) -> None:
        pass

    def on_overload(self) -> None:
        pass

    def on_batch(self, operation: str, size: int) -> None:
        pass


UNOBSERVED: Observer = _Unobserved()


def current_caller() -> Caller:
    """The caller of the call that runs in this task. Raises MethodNotAllowed where none was asked for."""
    caller = _caller.get()
    if caller is None:
        raise MethodNotAllowed
    return caller


class CallInterceptor(ServerInterceptor):
    """The one interceptor. For each method it makes, once, one function that does all that is to be done.

    A chain of interceptors would pass every call through as many coroutines and handlers more, which shows in what a
    call costs. The order, from the outside: errors are answered by one table and the call is logged; its caller is
    found as the policy asks for the method, and the guards let the call pass; the request is decoded; limits are kept.

    `authenticate` makes a Caller of a call's metadata, at once or later, or raises a RequestError; `scopes` names the
    scope of each access that has one. Each of `guards` looks at the context of a call that has a caller, and raises a
    RequestError to refuse it.
    """

    def __init__(
        self,
        *,
        policy: Mapping[str, Access],
        authenticate: Callable[[Any], Caller | Awaitable[Caller]],
        scopes: Mapping[Access, str],
        limits: CallLimits,
        streams: OpenStreams,
        max_message_bytes: int,
        guards: Sequence[Guard] = (),
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._policy = policy
        self._authenticate = authenticate
        self._scopes = scopes
        self._limits = limits
        self._streams = streams
        self._max_message_bytes = max_message_bytes
        self._guards = guards
        self._observer = observer
        self._handlers: dict[str, Handler] = {}
        self._refusal_delay = RefusalDelay()

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler:
        method = details.method
        started = time.perf_counter()
        try:
            handler = self._handlers.get(method)
            if handler is None:
                handler = self._handlers[method] = self._made(method, await continuation(details))
            await self._admit(method, details)
        except Exception as error:  # noqa: BLE001 - nothing may get past the outermost
            failure = error

            async def refuse(context: Context) -> None:
                await self._answer(failure, method, context, started)

            return refusal(refuse)
        return handler

    async def _admit(self, method: str, details: HandlerCallDetails) -> None:
        """Find the caller, where the method needs one, before the request is looked at."""
        access = self._policy.get(method)
        if access is Access.OPEN:
            return
        if access is None:
            raise MethodNotAllowed
        caller = self._authenticate(details.invocation_metadata)
        if not isinstance(caller, Caller):
            caller = await caller
        _caller.set(caller)
        require_scope(access, caller, self._scopes)

    def _made(self, method: str, handler: Handler | None) -> Handler:
        if handler is None:
            raise MethodUnknown
        behaviour = behaviour_of(handler)
        if handler.response_streaming:
            behaviour = self._streams.ended(behaviour)
        elif method.startswith(f"/{TASK_SERVICE}/"):
            behaviour = self._limits.kept(behaviour)
        # It decodes the requests as well: one that cannot be decoded, or is too long, is the caller's error, to be
        # answered with details, where grpc by itself would call the first INTERNAL.
        decodes = not handler.request_streaming
        decode = self._decoder(handler.request_deserializer) if decodes else _as_it_is
        if self._guards and self._policy.get(method) is not Access.OPEN:
            behaviour, decode = _guarded(self._guards, decode, behaviour), _as_it_is
        made = self._answering_many if generates(behaviour) else self._answering
        return with_behaviour(handler, made(method, behaviour, decode), decodes=decodes)

    def _answering(self, method: str, behaviour: Behaviour, decode: Decoder) -> Behaviour:
        on_call = self._observer.on_call
        log_ok = _log.debug if _log.is_enabled_for(logging.DEBUG) else None

        async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            started = time.perf_counter()
            try:
                response = await behaviour(decode(request), context)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - nothing may get past the outermost
                await self._answer(error, method, context, started)
            except asyncio.CancelledError:
                on_call(method, _code_of_cancelled(context), time.perf_counter() - started)
                raise
            else:
                on_call(method, "OK", time.perf_counter() - started)
                if log_ok:
                    log_ok("rpc", method=method, code="OK", **_about(started))
                return response

        return answer

    def _answering_many(self, method: str, behaviour: Behaviour, decode: Decoder) -> Behaviour:
        async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            started = time.perf_counter()
            try:
                async for response in behaviour(decode(request), context):
                    yield response
                self._observer.on_call(method, "OK", time.perf_counter() - started)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - nothing may get past the outermost
                await self._answer(error, method, context, started)
            except asyncio.CancelledError:
                self._observer.on_call(method, _code_of_cancelled(context), time.perf_counter() - started)
                raise

        return answer_many

    def _decoder(self, decode: Decoder | None) -> Decoder:
        def decoded(raw: bytes) -> Any:  # noqa: ANN401 - any message
            if len(raw) > self._max_message_bytes:
                raise MessageTooLarge(size=len(raw), limit=self._max_message_bytes)
            try:
                return decode(raw) if decode else raw
            except DecodeError as error:
                raise MessageMalformed from error

        return decoded

    async def _answer(self, error: Exception, method: str, context: Context, started: float) -> None:
        """Abort the call with the status of this error."""
        found, cause = error, error.__cause__
        if not isinstance(error, RequestError):
            error, cause = Internal(error_id=uuid.uuid4()), error
        if isinstance(error, RateLimited):
            error = await self._refusal_delay.hold_back(error, context.time_remaining())
        code = CODES[type(error)]
        self._observer.on_call(method, code.name, time.perf_counter() - started)
        if isinstance(error, Overloaded):
            self._observer.on_overload()
        # The private side of the error: who reads the log may know what the caller may not.
        # Who calls too often must not fill the log as well.
        level = "debug" if isinstance(error, RateLimited) else _LOG_LEVELS.get(code, "info")
        private = {"exc_info": cause} if code is StatusCode.INTERNAL else {"cause": repr(cause)} if cause else {}
        getattr(_log, level)(
            "rpc", method=method, code=code.name, reason=error.reason, message=str(error), **_about(started), **private
        )
        try:
            await context.abort_with_status(rpc_status.to_status(status_of(error)))
        except Exception as aborted:
            asyncio.get_running_loop().call_soon(forget, aborted, found)
            raise


def _code_of_cancelled(context: Context) -> str:
    """What a call ended with whose caller is gone."""
    remaining = context.time_remaining()
    return "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"


def _guarded(guards: Sequence[Guard], decode: Decoder, behaviour: Behaviour) -> Behaviour:
    """The same behind these guards, which see the call before its request is decoded."""

    async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        for guard in guards:
            guard(context)
        return await behaviour(decode(request), context)

    async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
        for guard in guards:
            guard(context)
        async for response in behaviour(decode(request), context):
            yield response

    return answer_many if generates(behaviour) else answer


def _as_it_is(request: Any) -> Any:  # noqa: ANN401 - an iterator of messages
    return request


def _about(started: float) -> dict[str, object]:
    """What every log line of a call tells besides its outcome."""
    caller = _caller.get()
    return {
        "user": caller.user_id if caller else None,
        "duration_ms": round((time.perf_counter() - started) * 1000, 2),
    }
