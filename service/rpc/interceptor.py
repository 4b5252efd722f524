"""The interceptor that every call passes: authentication, decoding, limits, error mapping, log line and metrics."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from itertools import chain
from typing import Any, Protocol, TypeAlias

import structlog
from google.protobuf.message import DecodeError
from grpc import HandlerCallDetails, StatusCode
from grpc.aio import AbortError, ServerInterceptor

from service.errors import (
    DeadlineExceeded,
    Internal,
    MessageMalformed,
    MessageTooLarge,
    MetadataTooLarge,
    MethodNotAllowed,
    MethodUnknown,
    Overloaded,
    RateLimited,
    RequestError,
    break_reference_cycles,
)
from service.model import Caller
from service.rpc.call_limits import CallLimits
from service.rpc.drain import Drain
from service.rpc.handlers import (
    Behaviour,
    Context,
    Continuation,
    Handler,
    Reader,
    behaviour_of,
    reading_handler,
    refusing_handler,
    with_behaviour,
)
from service.rpc.policy import TASK_SERVICE, Access, require_scope
from service.rpc.rate_limit import RefusalDelay
from service.rpc.status import CODES, grpc_status_of
from service.rpc.streams import OpenStreams

_log = structlog.get_logger("rpc")
_caller: ContextVar[Caller | None] = ContextVar("caller", default=None)

# Other codes are the caller's fault and logged at info; these point to a problem of the service.
_LOG_LEVELS = {
    StatusCode.INTERNAL: "error",
    StatusCode.UNAVAILABLE: "warning",
    StatusCode.RESOURCE_EXHAUSTED: "warning",
}

# Bytes that count for a name and a value beside their own (RFC 7541, 4.1).
_METADATA_OVERHEAD = 32

# Most log lines a second for calls whose deadline passed.
_MAX_DEADLINE_LINES = 10

# Most health checks in flight.
_MAX_OTHER_CALLS = 1000

Decoder: TypeAlias = Callable[[Any], Any]
Guard: TypeAlias = Callable[[Context], None]


class Observer(Protocol):
    """Hooks that metrics implement, so that `rpc` does not import them."""

    def on_start(self, method: str) -> None:
        """Record a call that starts: full method name."""

    def on_call(self, method: str, code: str, seconds: float) -> None:
        """Record a finished call: full method name, name of the status code, duration (s)."""

    def on_overload(self) -> None:
        """Record a call that was refused because too many are in flight."""

    def on_batch(self, operation: str, size: int) -> None:
        """Record a batch of calls that is sent to the database."""


class _Unobserved:
    def on_start(self, method: str) -> None:
        pass

    def on_call(self, method: str, code: str, seconds: float) -> None:
        pass

    def on_overload(self) -> None:
        pass

    def on_batch(self, operation: str, size: int) -> None:
        pass


UNOBSERVED: Observer = _Unobserved()


def current_caller() -> Caller:
    """Return the caller of the call in this asyncio task. Raises MethodNotAllowed if the method requires no caller."""
    caller = _caller.get()
    if caller is None:
        raise MethodNotAllowed
    return caller


class CallInterceptor(ServerInterceptor):
    """The only interceptor. It wraps each method once, in one function that does everything.

    A chain of interceptors would add a coroutine and a handler per link to the cost of every call. The order, from the
    outside in: map errors to statuses and log the call; authenticate as the policy requires; run the guards; decode the
    request; apply the limits.

    `authenticate` returns the Caller for a call's metadata, or an awaitable of it, or raises a RequestError. `scopes`
    maps each access to its scope. `guards` see the context of every call with a caller and raise a RequestError to
    refuse the call.
    """

    def __init__(
        self,
        *,
        policy: Mapping[str, Access],
        authenticate: Callable[[Any], Caller | Awaitable[Caller]],
        scopes: Mapping[Access, str],
        limits: CallLimits,
        streams: OpenStreams,
        drain: Drain,
        max_message_bytes: int,
        max_metadata_bytes: int,
        guards: Sequence[Guard] = (),
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._policy = policy
        self._authenticate = authenticate
        self._scopes = scopes
        self._limits = limits
        # Health checks must pass under load, so task calls do not use up their limit.
        self._other_limits = CallLimits(max_in_flight=_MAX_OTHER_CALLS, max_seconds=limits.max_seconds)
        self._streams = streams
        self._drain = drain
        self._max_message_bytes = max_message_bytes
        self._max_metadata_bytes = max_metadata_bytes
        self._guards = guards
        self._observer = observer
        self._handlers: dict[str, Handler] = {}
        self._refusal_delay = RefusalDelay()
        self._overloads = self._deadlines = 0  # in the current second

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler:
        method = details.method
        started = time.perf_counter()
        try:
            handler = self._handlers.get(method)
            if handler is None:
                handler = self._handlers[method] = self._wrap(method, await continuation(details))
            self._check_metadata(details.invocation_metadata)
            await self._admit(method, details)
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
            failure = error

            async def refuse(context: Context) -> None:
                self._observer.on_start(method)
                await self._abort(failure, method, context, started)

            return refusing_handler(refuse)
        return handler

    async def admit(self, details: HandlerCallDetails, context: Context, *, counts: bool) -> Caller | None:
        """Check a call as `intercept_service` does, and return its caller, without making the call.

        The guards run only if the check `counts`: one of them is the rate limit. A call that may not be made is
        aborted, counted and logged like any other.
        """
        started = time.perf_counter()
        try:
            await self._admit(details.method, details)
            if counts and self._policy.get(details.method) is not Access.OPEN:
                for guard in self._guards:
                    guard(context)
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
            self._observer.on_start(details.method)
            await self._abort(error, details.method, context, started)
        return _caller.get()

    def _check_metadata(self, metadata: Any) -> None:  # noqa: ANN401 - pairs of names and values
        """Refuse metadata over the limit, so that it is freed at once.

        gRPC does so too, but only for clients that have acknowledged its settings. Others may send 16 MiB per call, and
        with HPACK's table that takes them a few KiB.
        """
        size = sum(map(len, chain.from_iterable(metadata))) + _METADATA_OVERHEAD * len(metadata)
        if size > self._max_metadata_bytes:
            raise MetadataTooLarge(size=size, limit=self._max_metadata_bytes)

    async def _admit(self, method: str, details: HandlerCallDetails) -> None:
        """Authenticate and authorize the caller, before the request is decoded."""
        access = self._policy.get(method)
        if access is Access.OPEN:
            return
        self._drain.enter()
        if access is None:
            raise MethodNotAllowed
        caller = self._authenticate(details.invocation_metadata)
        if not isinstance(caller, Caller):
            caller = await caller
        _caller.set(caller)
        require_scope(access, caller, self._scopes)

    def _wrap(self, method: str, handler: Handler | None) -> Handler:
        if handler is None:
            raise MethodUnknown
        behaviour = behaviour_of(handler)
        guards = () if self._policy.get(method) is Access.OPEN else self._guards
        # The wrapper decodes requests itself, so that a malformed or oversized one gets a status with details. gRPC
        # would report a malformed one as INTERNAL.
        read = _guarded(guards, self._decoder(handler.request_deserializer))
        if handler.request_streaming:
            behaviour = self._streams.track(behaviour)
            return with_behaviour(handler, self._wrap_streaming(method, behaviour, _guarded(guards, _undecoded)))
        if handler.response_streaming:
            behaviour = self._streams.track(self._other_limits.apply_streaming(behaviour, read))
            return reading_handler(handler, self._wrap_streaming(method, behaviour, _guarded((), _undecoded)))
        limits = self._limits if method.startswith(f"/{TASK_SERVICE}/") else self._other_limits
        serialize = handler.response_serializer or bytes
        behaviour = limits.apply(behaviour, read, serialize, _caller.get)
        return reading_handler(handler, self._wrap_unary(method, behaviour), serializes=True)

    def _wrap_unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        on_start, on_call = self._observer.on_start, self._observer.on_call
        log_ok = _log.debug if _log.is_enabled_for(logging.DEBUG) else None

        async def respond(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            started = time.perf_counter()
            on_start(method)
            try:
                response = await behaviour(request, context)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
                await self._abort(error, method, context, started)
            except asyncio.CancelledError:
                on_call(method, _code_of_cancelled(context), time.perf_counter() - started)
                raise
            else:
                on_call(method, "OK", time.perf_counter() - started)
                if log_ok:
                    log_ok("rpc", method=method, code="OK", **_log_fields(started))
                return response

        return respond

    def _wrap_streaming(self, method: str, behaviour: Behaviour, read: Reader) -> Behaviour:
        async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any messages
            started = time.perf_counter()
            self._observer.on_start(method)
            try:
                async for response in behaviour(read(requests, context), context):
                    yield response
                self._observer.on_call(method, "OK", time.perf_counter() - started)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
                await self._abort(error, method, context, started)
            except asyncio.CancelledError:
                self._observer.on_call(method, _code_of_cancelled(context), time.perf_counter() - started)
                raise

        return stream

    def _decoder(self, decode: Decoder | None) -> Decoder:
        def decoded(raw: bytes) -> Any:  # noqa: ANN401 - any message
            if len(raw) > self._max_message_bytes:
                raise MessageTooLarge(size=len(raw), limit=self._max_message_bytes)
            try:
                return decode(raw) if decode else raw
            except DecodeError as error:
                raise MessageMalformed from error

        return decoded

    async def _abort(self, error: Exception, method: str, context: Context, started: float) -> None:
        """Abort the call with the status of this error, count it and log it."""
        found, cause = error, error.__cause__
        if not isinstance(error, RequestError):
            error, cause = Internal(error_id=uuid.uuid4()), error
        if isinstance(error, RateLimited):
            error = await self._refusal_delay.wait(error, context.time_remaining())
        code = CODES[type(error)]
        self._observer.on_call(method, code.name, time.perf_counter() - started)
        if isinstance(error, Overloaded):
            self._observer.on_overload()
            self._count_overloads(method)
        # Only the log gets the cause of an error. Refusals that come in floods are logged at debug.
        is_flood = isinstance(error, RateLimited | Overloaded) or self._is_flood_of_deadlines(error)
        level = "debug" if is_flood else _LOG_LEVELS.get(code, "info")
        private = {"exc_info": cause} if code is StatusCode.INTERNAL else {"cause": repr(cause)} if cause else {}
        getattr(_log, level)(
            "rpc",
            method=method,
            code=code.name,
            reason=error.reason,
            message=str(error),
            **_log_fields(started),
            **private,
        )
        self._drain.start()
        try:
            await context.abort_with_status(grpc_status_of(error))
        except Exception as aborted:
            asyncio.get_running_loop().call_soon(break_reference_cycles, aborted, found)
            raise
        finally:
            self._drain.end()

    def _is_flood_of_deadlines(self, error: Exception) -> bool:
        """True for a deadline that passed when many have in this second: under overload, lines cost more than calls."""
        if not isinstance(error, DeadlineExceeded):
            return False
        self._deadlines += 1
        if self._deadlines == 1:
            asyncio.get_running_loop().call_later(1.0, self._log_deadlines)
        return self._deadlines > _MAX_DEADLINE_LINES

    def _log_deadlines(self) -> None:
        if (more := self._deadlines - _MAX_DEADLINE_LINES) > 0:
            _log.info("more deadlines passed", calls=more)
        self._deadlines = 0

    def _count_overloads(self, method: str) -> None:
        """Log the first refusal for overload at once, and the number of those that follow once a second."""
        self._overloads += 1
        if self._overloads == 1:
            _log.warning("overloaded", method=method, message=str(Overloaded()))
            asyncio.get_running_loop().call_later(1.0, self._log_overloads)

    def _log_overloads(self) -> None:
        if self._overloads > 1:
            _log.warning("overloaded", refused=self._overloads - 1)
        self._overloads = 0


def _code_of_cancelled(context: Context) -> str:
    """Return the code of a call whose client cancelled it or whose deadline passed."""
    remaining = context.time_remaining()
    return "DEADLINE_EXCEEDED" if remaining is not None and remaining <= 0 else "CANCELLED"


def _guarded(guards: Sequence[Guard], decode: Decoder) -> Reader:
    """Return a reader that runs the guards before it decodes the request."""
    if not guards:
        return lambda message, _context: decode(message)

    def read(message: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        for guard in guards:
            guard(context)
        return decode(message)

    return read


def _undecoded(requests: Any) -> Any:  # noqa: ANN401 - an iterator of messages
    return requests


def _log_fields(started: float) -> dict[str, object]:
    """Return the fields that every log line of a call has."""
    caller = _caller.get()
    return {
        "user": caller.user_id if caller else None,
        "duration_ms": round((time.perf_counter() - started) * 1000, 2),
    }
