"""A way into the gRPC server from its own process: its methods behind its interceptor, without a connection.

What grpc-java and grpc-go's users know as an in-process channel, and Python has none of. A call meets the interceptor
that every call meets, in the same order, and the methods behind it; what is left out is the transport: a loopback
connection would cost more than twice what the call itself does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NoReturn, Protocol, cast

import grpc
from google.protobuf.message import Message
from grpc import HandlerCallDetails
from grpc.aio import AioRpcError, Metadata

from service.rpc.handlers import Context, Continuation, Handler, behaviour_of

Pairs = Sequence[tuple[str, str]]
Connection = Mapping[str, Sequence[bytes]]
"""What is known of the client's certificate, as gRPC's auth_context has it: `peer_dns` and `peer_uri`, if verified."""


class Interceptor(Protocol):
    """One that is made for grpc.aio."""

    async def intercept_service(self, continuation: Continuation, details: HandlerCallDetails, /) -> Handler: ...


class Details(HandlerCallDetails):
    """What an interceptor is told of a call."""

    def __init__(self, method: str, metadata: Pairs) -> None:
        self.method = method
        self.invocation_metadata = tuple(metadata)


class InProcess:
    """Add the servicers as to a grpc.aio server; then `call` their unary methods."""

    def __init__(self, interceptor: Interceptor) -> None:
        self._interceptor = interceptor
        self._handlers: dict[str, Handler] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """What generated code calls to register a service."""
        self._handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """The same once more, which it calls for the sake of older servers."""

    async def call(
        self, method: str, request: bytes, metadata: Pairs, seconds: float | None, connection: Connection
    ) -> Message:
        """Call a unary method of the full name `/service/method`; with `seconds` until its deadline, None for none.

        Raises grpc.aio.AioRpcError as a client would get it.
        """
        context = cast("Context", _Context(metadata, seconds, connection))
        handler = await self._interceptor.intercept_service(self._found, Details(method, metadata))
        # The interceptor decodes the request, or refuses it whatever the kind of the method.
        response: Message = await behaviour_of(handler)(request, context)
        return response

    async def _found(self, details: HandlerCallDetails) -> Handler | None:
        return self._handlers.get(details.method)


class _Context:
    """Of grpc.aio.ServicerContext what the interceptor and the methods use; more is an AttributeError, and INTERNAL."""

    def __init__(self, metadata: Pairs, seconds: float | None, connection: Connection) -> None:
        self._metadata = metadata
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._connection = connection

    def invocation_metadata(self) -> Pairs:
        return self._metadata

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

    def auth_context(self) -> Connection:
        return self._connection

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        trailers = Metadata(*status.trailing_metadata or ())
        raise AioRpcError(status.code, Metadata(), trailers, details=status.details)
