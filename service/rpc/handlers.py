"""gRPC method handlers: take one apart and rebuild it around another function."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc import HandlerCallDetails
from grpc.aio import ServicerContext

# Quoted because these classes are generic only in their type stubs.
Context: TypeAlias = "ServicerContext[Any, Any]"
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour: TypeAlias = Callable[[Any, Context], Any]
Continuation: TypeAlias = "Callable[[HandlerCallDetails], Awaitable[Handler | None]]"

_MAKERS = {
    (False, False): grpc.unary_unary_rpc_method_handler,
    (False, True): grpc.unary_stream_rpc_method_handler,
    (True, False): grpc.stream_unary_rpc_method_handler,
    (True, True): grpc.stream_stream_rpc_method_handler,
}


def behaviour_of(handler: Handler) -> Behaviour:
    """Return the function that serves the method, unary or streaming."""
    behaviour: Behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream  # type: ignore[assignment]
    )
    return behaviour


def yields_responses(behaviour: Behaviour) -> bool:
    """True for an async generator, False for a function that returns its response or writes it to the context."""
    return inspect.isasyncgenfunction(behaviour)


def with_behaviour(handler: Handler, behaviour: Behaviour, *, decodes: bool = False) -> Handler:
    """Return the handler with another function, which receives undecoded bytes if it `decodes` requests itself."""
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    decoder = None if decodes else handler.request_deserializer
    return make(behaviour, request_deserializer=decoder, response_serializer=handler.response_serializer)


def refusing_handler(refuse: Callable[[Context], Awaitable[None]]) -> Handler:
    """Return a handler that calls `refuse` at once: as a streaming one, it does not wait for a request message."""

    async def behaviour(_requests: object, context: Context) -> None:
        await refuse(context)

    return grpc.stream_stream_rpc_method_handler(behaviour)
