"""The interceptor that every call passes: authentication, decoding, limits, error mapping, log line and metrics."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import Any, Protocol, TypeAlias

from google.protobuf.message import DecodeError
from grpc import HandlerCallDetails
from grpc.aio import AbortError, ServerInterceptor

from service.call_record import REQUEST_ID_KEY, CallRecord, RequestIds, current_call
from service.errors import (
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
from service.rpc.call_log import CallLog
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
from service.rpc.in_process import Details
from service.rpc.policy import TASK_SERVICE, Access, require_scope
from service.rpc.rate_limit import RefusalDelay
from service.rpc.status import CODES, grpc_status_of
from service.rpc.streams import OpenStreams

# Bytes that count for a name and a value beside their own (RFC 7541, 4.1).
_METADATA_OVERHEAD = 32

# Most health checks in flight.
_MAX_OTHER_CALLS = 1000

Decoder: TypeAlias = Callable[[Any], Any]
Guard: TypeAlias = Callable[[Context], None]


class Observer(Protocol):
    """Hooks that metrics implement, so that `rpc` does not import them."""

    def on_start(self, method: str) -> None:
        """Record a call that starts: full method name."""

    def on_received(self, method: str) -> None:
        """Record a message of a request."""

    def on_sent(self, method: str) -> None:
        """Record a message of a response."""

    def on_call(self, method: str, code: str, seconds: float) -> None:
        """Record a finished call: full method name, name of the status code, duration (s)."""

    def on_error(self, reason: str, api: str) -> None:
        """Record a failed call: the reason in its ErrorInfo, and `grpc` or `rest`."""

    def on_overload(self) -> None:
        """Record a call that was refused because too many are in flight."""


class _Unobserved:
    def on_start(self, method: str) -> None:
        pass

    def on_received(self, method: str) -> None:
        pass

    def on_sent(self, method: str) -> None:
        pass

    def on_call(self, method: str, code: str, seconds: float) -> None:
        pass

    def on_error(self, reason: str, api: str) -> None:
        pass

    def on_overload(self) -> None:
        pass


UNOBSERVED: Observer = _Unobserved()


class Tracer(Protocol):
    """Hooks that tracing implements, so that `rpc` does not import it."""

    def begin(self, request_id: str, api: str, started: float, details: HandlerCallDetails) -> CallRecord:
        """Make the record of a call."""

    def on_context(self, context: Context) -> None:
        """Read the client's address from the context of the current call."""

    def ending(self, on_call: Callable[..., None]) -> Callable[..., None]:
        """Return a function that does what `Observer.on_call` does, and ends the span of the current call."""


def current_caller() -> Caller:
    """Return the caller of the call in this asyncio task. Raises MethodNotAllowed if the method requires no caller."""
    caller: Caller | None = record.caller if (record := current_call.get()) else None
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
        tracer: Tracer | None = None,
        log: CallLog | None = None,
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
        self._tracer = tracer
        self._new_record = tracer.begin if tracer else CallRecord
        self._on_call = tracer.ending(observer.on_call) if tracer else observer.on_call
        self._handlers: dict[str, Handler] = {}
        self._refusal_delay = RefusalDelay()
        self._request_ids = RequestIds()
        self._log = log or CallLog()

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler:
        method = details.method
        record = self._begin(details)
        try:
            handler = self._handlers.get(method)
            if handler is None:
                handler = self._handlers[method] = self._wrap(method, await continuation(details))
            self._check_metadata(details.invocation_metadata)
            await self._admit(method, details, record)
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
            failure = error

            async def refuse(context: Context) -> None:
                self._observer.on_start(method)
                if self._tracer:
                    self._tracer.on_context(context)
                await self._abort(failure, method, context, record)

            return refusing_handler(refuse)
        return handler

    async def admit(self, details: HandlerCallDetails, context: Context, *, counts: bool) -> Caller | None:
        """Check a call as `intercept_service` does, and return its caller, without making the call.

        The guards run only if the check `counts`: one of them is the rate limit. A call that may not be made is
        aborted, counted and logged like any other.
        """
        record = self._begin(details)
        try:
            await self._admit(details.method, details, record)
            if counts and self._policy.get(details.method) is not Access.OPEN:
                for guard in self._guards:
                    guard(context)
        except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
            self._observer.on_start(details.method)
            await self._abort(error, details.method, context, record)
        caller: Caller | None = record.caller
        return caller

    def _begin(self, details: HandlerCallDetails) -> CallRecord:
        """Make the record of a call, for everything that runs in its task."""
        api = "rest" if isinstance(details, Details) else "grpc"
        request_id = self._request_ids.of(details.invocation_metadata or ())
        record = self._new_record(request_id, api, time.perf_counter(), details)
        current_call.set(record)
        return record

    def _check_metadata(self, metadata: Any) -> None:  # noqa: ANN401 - pairs of names and values
        """Refuse metadata over the limit, so that it is freed at once.

        gRPC does so too, but only for clients that have acknowledged its settings. Others may send 16 MiB per call, and
        with HPACK's table that takes them a few KiB.
        """
        size = sum(map(len, chain.from_iterable(metadata))) + _METADATA_OVERHEAD * len(metadata)
        if size > self._max_metadata_bytes:
            raise MetadataTooLarge(size=size, limit=self._max_metadata_bytes)

    async def _admit(self, method: str, details: HandlerCallDetails, record: CallRecord) -> None:
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
        record.caller = caller
        require_scope(access, caller, self._scopes)

    def _wrap(self, method: str, handler: Handler | None) -> Handler:
        if handler is None:
            raise MethodUnknown
        behaviour = behaviour_of(handler)
        guards = () if self._policy.get(method) is Access.OPEN else self._guards
        # The wrapper decodes requests itself, so that a malformed or oversized one gets a status with details. gRPC
        # would report a malformed one as INTERNAL.
        read = _guarded(guards, self._decoder(method, handler.request_deserializer))
        if handler.request_streaming:
            behaviour = self._streams.track(behaviour)
            read = _guarded(guards, partial(self._each, method))
            return with_behaviour(handler, self._wrap_streaming(method, behaviour, read))
        if handler.response_streaming:
            behaviour = self._streams.track(self._other_limits.apply_streaming(behaviour, read))
            return reading_handler(handler, self._wrap_streaming(method, behaviour, _guarded((), _undecoded)))
        limits = self._limits if method.startswith(f"/{TASK_SERVICE}/") else self._other_limits
        serialize = handler.response_serializer or bytes
        behaviour = limits.apply(behaviour, read, serialize, _current_owner)
        if self._tracer:
            behaviour = _after(self._tracer.on_context, behaviour)
        return reading_handler(handler, self._wrap_unary(method, behaviour), serializes=True)

    def _wrap_unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        on_start, on_call, on_sent = self._observer.on_start, self._on_call, self._observer.on_sent
        log = self._log

        async def respond(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            record = _current_record()
            on_start(method)
            try:
                response = await behaviour(request, context)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
                await self._abort(error, method, context, record)
            except asyncio.CancelledError:
                seconds, code = time.perf_counter() - record.started, _code_of_cancelled(context)
                on_call(method, code, seconds)
                log.on_cancelled(method, code, record, seconds, context)
                raise
            else:
                on_sent(method)
                on_call(method, "OK", seconds := time.perf_counter() - record.started)
                if log.wants(seconds):
                    log.on_success(method, record, seconds, context)
                # At the end: metadata at the beginning would cost a message of its own (15 % of an empty call).
                context.set_trailing_metadata(((REQUEST_ID_KEY, record.request_id),))
                return response

        return respond

    def _wrap_streaming(self, method: str, behaviour: Behaviour, read: Reader) -> Behaviour:
        async def stream(requests: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any messages
            record = _current_record()
            context.set_trailing_metadata(((REQUEST_ID_KEY, record.request_id),))
            self._observer.on_start(method)
            try:
                async for response in behaviour(read(requests, context), context):
                    self._observer.on_sent(method)
                    yield response
                self._on_call(method, "OK", time.perf_counter() - record.started)
            except AbortError:
                raise
            except Exception as error:  # noqa: BLE001 - the outermost frame: every error gets a status
                await self._abort(error, method, context, record)
            except asyncio.CancelledError:
                self._on_call(method, _code_of_cancelled(context), time.perf_counter() - record.started)
                raise

        return stream

    async def _each(self, method: str, requests: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for request in requests:
            self._observer.on_received(method)
            yield request

    def _decoder(self, method: str, decode: Decoder | None) -> Decoder:
        on_received = self._observer.on_received

        def decoded(raw: bytes) -> Any:  # noqa: ANN401 - any message
            on_received(method)
            if len(raw) > self._max_message_bytes:
                raise MessageTooLarge(size=len(raw), limit=self._max_message_bytes)
            try:
                return decode(raw) if decode else raw
            except DecodeError as error:
                raise MessageMalformed from error

        return decoded

    async def _abort(self, error: Exception, method: str, context: Context, record: CallRecord) -> None:
        """Abort the call with the status of this error, count it and log it."""
        found, cause = error, error.__cause__
        if not isinstance(error, RequestError):
            error, cause = Internal(error_id=uuid.uuid4()), error
        if isinstance(error, RateLimited):
            error = await self._refusal_delay.wait(error, context.time_remaining())
        code = CODES[type(error)]
        self._on_call(method, code.name, seconds := time.perf_counter() - record.started)
        self._observer.on_error(error.reason, record.api)
        if isinstance(error, Overloaded):
            self._observer.on_overload()
        self._log.on_failure(method, code, error, cause, record, seconds, context)
        self._drain.start()
        try:
            await context.abort_with_status(grpc_status_of(error, record.request_id))
        except Exception as aborted:
            asyncio.get_running_loop().call_soon(break_reference_cycles, aborted, found)
            raise
        finally:
            self._drain.end()


def _current_record() -> CallRecord:
    """Return the record that `intercept_service` has made in this task."""
    record = current_call.get()
    assert record is not None
    return record


def _current_owner() -> Caller | None:
    owner: Caller | None = _current_record().caller
    return owner


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


def _after(see: Callable[[Context], None], behaviour: Behaviour) -> Behaviour:
    """Return the function, preceded by a look at the context."""

    def seen(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        see(context)
        return behaviour(request, context)

    return seen


def _undecoded(requests: Any) -> Any:  # noqa: ANN401 - an iterator of messages
    return requests
