"""Counting every call, whoever answers it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from grpc import HandlerCallDetails, StatusCode
from grpc.aio import AbortError, ServerInterceptor

from service.errors import Overloaded
from service.rpc.handlers import Context, Continuation, Handler, behaviour_of, generates, with_behaviour
from service.rpc.policy import TASK_SERVICE

if TYPE_CHECKING:
    from service.metrics import Metrics

# A context answers the code as it was given: as a number or as what the number stands for.
_NAMES: dict[object, str] = {each: code.name for code in StatusCode for each in (code, code.value[0])}


class Metered(ServerInterceptor):
    """Outermost, around the interceptor that answers errors, so that it sees how every call ends."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._wrapped: dict[str, tuple[Handler, Handler]] = {}
        self._in_flight = 0

    def in_flight(self) -> int:
        """How many task calls are under way."""
        return self._in_flight

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails) -> Handler | None:
        handler = await continuation(details)
        if handler is None:
            return None
        method = details.method
        known, wrapped = self._wrapped.get(method, (None, None))
        if wrapped is None or known is not handler:
            wrapped = self._wrap(method, handler)
            if method in self._metrics.methods:
                self._wrapped[method] = handler, wrapped
        return wrapped

    def _wrap(self, method: str, handler: Handler) -> Handler:
        behaviour = behaviour_of(handler)
        weight = int(method.startswith(f"/{TASK_SERVICE}/"))

        async def answer(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
            started = time.perf_counter()
            code = "OK"
            self._in_flight += weight
            try:
                return await behaviour(request, context)
            except BaseException as error:
                code = self._failed(error, context)
                raise
            finally:
                self._in_flight -= weight
                self._metrics.on_call(method, code, time.perf_counter() - started)

        async def answer_many(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401 - any message
            started = time.perf_counter()
            code = "OK"
            try:
                async for response in behaviour(request, context):
                    yield response
            except BaseException as error:
                code = self._failed(error, context)
                raise
            finally:
                self._metrics.on_call(method, code, time.perf_counter() - started)

        return with_behaviour(handler, answer_many if generates(behaviour) else answer)

    def _failed(self, error: BaseException, context: Context) -> str:
        """The name of the code that a call ended with that raised this."""
        code = _code_of(error, context)
        if code == "RESOURCE_EXHAUSTED" and _is_overload(context):
            self._metrics.on_overload()
        return code


def _code_of(error: BaseException, context: Context) -> str:
    if isinstance(error, AbortError):
        return _NAMES.get(context.code(), "UNKNOWN")
    if isinstance(error, asyncio.CancelledError):
        remaining = context.time_remaining()
        return "CANCELLED" if remaining is None or remaining > 0 else "DEADLINE_EXCEEDED"
    return "UNKNOWN"


def _is_overload(context: Context) -> bool:
    """Whether the reason in the details that it was aborted with is that there are too many calls."""
    details = dict(context.trailing_metadata()).get("grpc-status-details-bin", b"")
    return isinstance(details, bytes) and Overloaded.reason.encode() in details
