"""In-process calls: the methods of the gRPC server behind its interceptor, without a connection.

Python lacks the in-process channel of grpc-java. A call passes the same interceptor, in the same order, as a call from
outside. Only the transport is missing: a loopback connection would cost more than twice as much as the call itself.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol, cast

import grpc
from google.protobuf.message import Message
from grpc import HandlerCallDetails
from grpc.aio import AioRpcError, Metadata

from service.call_record import current_call
from service.model import Caller
from service.rpc.handlers import Context, Continuation, Handler, behaviour_of

Pairs = Sequence[tuple[str, str]]


class Interceptor(Protocol):
    """The part of the interceptor that is used here."""

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails, /) -> Handler: ...

    async def admit(self, details: HandlerCallDetails, context: Context, /, *, counts: bool) -> Caller | None: ...


class Details(HandlerCallDetails):
    """Method name and metadata of a call, for the interceptor."""

    def __init__(self, method: str, metadata: Pairs) -> None:
        self.method = method
        self.invocation_metadata = tuple(metadata)


class InProcess:
    """Register servicers as on a grpc.aio server, then `call` their unary methods."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        self._handlers: dict[str, Handler] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """Register a service; called by generated code."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Do nothing: generated code registers each service here too, for older versions of grpcio."""

    async def call(self, method: str, request: bytes, metadata: Pairs, seconds: float | None) -> Message:
        """Call the unary method `/service/method`; the deadline is in `seconds`, None for none.

        Raises the grpc.aio.AioRpcError that a client would get.
        """
        context = cast("Context", InProcessContext(request, metadata, seconds))
        handler = await self._interceptor.intercept_service(self._found, Details(method, metadata))
        # The interceptor decodes the request, or returns a handler that refuses it.
        response: Message = await behaviour_of(handler)(request, context)
        return response

    async def admit(self, method: str, metadata: Pairs, *, counts: bool) -> str | None:
        """Check that the call may be made, without making it, and return its user. Raises as `call` does.

        The check `counts` for the rate limit or not.
        """
        context = cast("Context", InProcessContext(b"", metadata, None))
        caller = await self._interceptor.admit(Details(method, metadata), context, counts=counts)
        return caller.user_id if caller else None

    async def _found(self, details: HandlerCallDetails) -> Handler | None:
        return self._handlers.get(details.method)


class InProcessContext:
    """The part of grpc.aio.ServicerContext that the interceptor and the servicers use; anything else is INTERNAL."""

    def __init__(self, request: bytes, metadata: Pairs, seconds: float | None) -> None:
        request_of_client = current_call.get()
        self._peer = request_of_client.peer if request_of_client else ""
        self._request = request
        self._metadata = metadata
        self._deadline = None if seconds is None else time.monotonic() + seconds

    async def read(self) -> bytes:
        return self._request

    def peer(self) -> str:
        """The address of the HTTP client."""
        return self._peer

    def invocation_metadata(self) -> Pairs:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

    def set_trailing_metadata(self, _trailing_metadata: Pairs) -> None:
        """Do nothing: the gateway has made the request id, which is all that they have."""

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        trailers = Metadata(*status.trailing_metadata or ())
        raise AioRpcError(status.code, Metadata(), trailers, details=status.details)
