"""A real gRPC server that follows a script: one response for each attempt of a call."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from grpc import StatusCode

Answer = StatusCode | bytes | Callable[[grpc.ServicerContext], bytes]
"""A status, an encoded message, or a function that handles the call."""


class Scripted(grpc.GenericRpcHandler):
    """Plays the script; its last response is repeated for all later attempts."""

    def __init__(self) -> None:
        self.script: list[Answer] = [b""]
        self.attempts: list[tuple[str, bytes]] = []
        """The method and the encoded request of each attempt, in order."""
        self.remaining: list[float] = []
        """The time (s) that each attempt had left when it arrived."""
        self.address = ""

    def answers(self, *script: Answer) -> None:
        """Start a new script."""
        self.script = list(script)
        self.attempts.clear()

    def service(self, details: Any) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        if details.method.startswith("/grpc.health."):
            return None  # UNIMPLEMENTED, which a client takes for healthy

        def play(request: bytes, context: grpc.ServicerContext) -> bytes:
            self.attempts.append((details.method.rpartition("/")[2], request))
            self.remaining.append(context.time_remaining() or 0)
            answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
            if isinstance(answer, bytes):
                return answer
            if isinstance(answer, StatusCode):
                context.abort(answer, "as the script says")
            return answer(context)

        return grpc.unary_unary_rpc_method_handler(play)


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    scripted = Scripted()
    server = grpc.server(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((scripted,))
    port = server.add_insecure_port("127.0.0.1:0")
    scripted.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield scripted
    finally:
        server.stop(None).wait()
