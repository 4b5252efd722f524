"""Taking grpc's method handlers apart and putting them together again around another behaviour."""

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
    """The function that serves the method, whichever of the four kinds it is of."""
    behaviour: Behaviour = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream  # type: ignore[assignment]
    )
    return behaviour


def generates(behaviour: Behaviour) -> bool:
    """Whether it answers by yielding messages, and not by returning one or by writing to the context."""
    return inspect.isasyncgenfunction(behaviour)


def with_behaviour(handler: Handler, behaviour: Behaviour, *, decodes: bool = False) -> Handler:
    """The same method served by another function, which gets the request's bytes if it `decodes` them itself."""
    make = _MAKERS[handler.request_streaming, handler.response_streaming]
    decoder = None if decodes else handler.request_deserializer
    return make(behaviour, request_deserializer=decoder, response_serializer=handler.response_serializer)


def refusal(refuse: Callable[[Context], Awaitable[None]]) -> Handler:
    """A handler that answers no request but calls `refuse`, of a kind that does not even wait for a message."""

    async def behaviour(_requests: object, context: Context) -> None:
        await refuse(context)

    return grpc.stream_stream_rpc_method_handler(behaviour)
