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
Reader: TypeAlias = Callable[[Any, Context], Any]
"""Makes the request that a behaviour takes: from the bytes of a message, or from a stream of messages."""
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


def with_behaviour(handler: Handler, behaviour: Behaviour) -> Handler:
    """Return the handler with another function."""
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    return make(
        behaviour,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def reading_handler(handler: Handler, behaviour: Behaviour, *, serializes: bool = False) -> Handler:
    """Return a handler whose function starts with the request's headers and reads the message from the context.

    If it `serializes`, the function returns bytes.

    The handler takes a stream of requests, undecoded. On the wire that is the same; but gRPC waits without a limit for
    the message of a unary request before it calls the function, and never ends a call that has none.
    """
    serializer = None if serializes else handler.response_serializer
    return _MAKERS[True, handler.response_streaming](behaviour, response_serializer=serializer)


def refusing_handler(refuse: Callable[[Context], Awaitable[None]]) -> Handler:
    """Return a handler that calls `refuse` at once: as a streaming one, it does not wait for a request message."""

    async def behaviour(_requests: object, context: Context) -> None:
        await refuse(context)

    return grpc.stream_stream_rpc_method_handler(behaviour)
