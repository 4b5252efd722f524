"""The connection of a client and of its copies: opened by the first call, used by one process and one event loop."""

from __future__ import annotations

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message
from taskwell.v1.tasks_pb2_grpc import TaskServiceStub

from taskwell_client.channels import Channels
from taskwell_client.errors import ClientUnusable, TaskwellError, error_of

CLOSED = "this client is closed: make a new one with connect() or connect_async()"
_FORKED = (
    "this client was used by another process, which this one was forked from, and gRPC connections do not survive a "
    "fork: make the client in this process, for example in gunicorn's post_fork or Celery's worker_process_init"
)
_OTHER_LOOP = (
    "this client belongs to another event loop, that of its first call: make one client per event loop, for example "
    "inside the function that asyncio.run() runs"
)


class Call(NamedTuple):
    """One call: its method, its request, and if it is safe to retry."""

    method: str
    request: Message
    safe: bool = True


@dataclass(frozen=True)
class _Opened:
    channels: Channels
    retrying: Any
    once: Any
    process: int
    loop: AbstractEventLoop | None


class Connection:
    """The channels to one target, made with the first call.

    A client may therefore be made at import, before the program forks or starts its event loop. Once it is used, it
    belongs to the process and the event loop of its first call.
    """

    def __init__(
        self,
        target: str,
        open_: Callable[[], Channels],
        loop: Callable[[], AbstractEventLoop | None],
        *,
        is_private: bool,
    ) -> None:
        self.target = target
        self.is_closed = False
        self.is_private = is_private
        """True for TLS, and for a service on this machine: nobody can read a token on the way."""
        self._open = open_
        self._loop = loop
        self._opened: dict[str, _Opened] = {}

    def method(self, call: Call) -> Any:  # noqa: ANN401 - a multicallable of grpc or of grpc.aio
        """The method of the stub for a call. Raises ClientUnusable."""
        if self.is_closed:
            raise unusable(CLOSED)
        opened = self._opened.get("") or self._open_once()
        if opened.process != os.getpid():
            raise unusable(_FORKED)
        if opened.loop is not self._loop():
            raise unusable(_OTHER_LOOP)
        return getattr(opened.retrying if call.safe else opened.once, call.method)

    def close(self) -> Iterable[Any]:
        """Refuse further calls. Returns the channels for the client to close, of this process alone."""
        self.is_closed = True
        opened = self._opened.get("")
        return opened.channels if opened and opened.process == os.getpid() else ()

    def error_of(self, error: grpc.RpcError) -> TaskwellError:
        """The error for a failed call, also for one that `close` has ended."""
        failed = error_of(error)
        return unusable(CLOSED) if self.is_closed and failed.code is grpc.StatusCode.CANCELLED else failed

    def _open_once(self) -> _Opened:
        channels = self._open()
        # Typed as stubs of sync channels; for the asyncio client they are not, which only that client needs to know.
        retrying = TaskServiceStub(channels.retrying)  # type: ignore[call-overload]
        once = TaskServiceStub(channels.once)  # type: ignore[call-overload]
        mine = _Opened(channels, retrying, once, os.getpid(), self._loop())
        # One statement, which threads cannot interleave. A lock could be held by another thread during a fork, and then
        # for ever in the child. Channels that were opened in vain have connected to nothing.
        return self._opened.setdefault("", mine)


def unusable(sentence: str) -> ClientUnusable:
    """The error of a client that cannot be used."""
    return ClientUnusable(sentence, grpc.StatusCode.FAILED_PRECONDITION)
