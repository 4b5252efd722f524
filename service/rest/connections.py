"""Connections of the door: uvicorn's protocol, with what it lacks to be left alone with strangers.

uvicorn reads headers of any size for as long as a client cares to send them, from as many clients as there are file
descriptors, answers what is no HTTP in plain text, and lets the application run on for a client that is gone. It also
reads requests ahead of the one that is being answered, and so would answer that one with what is wrong with another.
Here a request is looked at when the one before it has been answered; until then what came of it waits as it is.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import ssl
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import httptools
from grpc import StatusCode
from starlette.types import Message, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from service.rest.errors import of_refusal
from service.rest.incoming import CUT_OFF, Incoming, too_large, too_long
from service.rest.limits import Limits
from service.rest.refusals import Refusal

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

# What HPACK counts for a header beside its name and value (RFC 7541, 4.1), so that both doors take as many.
_OVERHEAD = 32
_MALFORMED = "REQUEST_MALFORMED"
_KINDS = {"DNS": "peer_dns", "URI": "peer_uri"}
# How many pieces of a request are parsed before it is others' turn.
_PIECES = 1000
# How long a client that was refused may go on sending before the connection is closed (s).
_LAST_WORDS = 1.0


class _Flow(FlowControl):
    """uvicorn's, which reads on with every answer; here only where there is room for what comes."""

    def __init__(self, transport: asyncio.Transport, is_full: Callable[[], bool]) -> None:
        super().__init__(transport)
        self._is_full = is_full

    def resume_reading(self) -> None:
        if not self._is_full():
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection. `lost` is called when it is gone, and `sweep` is to be called now and then."""

    def __init__(self, config: Config, state: ServerState, limits: Limits, lost: Callable[[], None]) -> None:
        super().__init__(config, state, {})
        self.timeout_keep_alive = limits.idle_seconds  # type: ignore[assignment]  # any number will do
        self._limits = limits
        self._lost = lost
        self._certificate: Mapping[str, Sequence[bytes]] = {}
        self._running: asyncio.Task[None] | None = None
        self._ends = math.inf
        self._due = math.inf
        self._incoming = Incoming(limits.head_bytes, limits.body_bytes)
        self._going_on: asyncio.Handle | None = None
        self._begun = False
        self._head = 0
        self._unsent, self._sent_at = 0, 0.0
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        self.transport = transport
        if len(self.connections) >= self._limits.connections:
            transport.abort()
            return
        super().connection_made(transport)
        self.flow = _Flow(transport, self._is_full)
        now = self.loop.time()
        self._ends = now + self._limits.age_seconds
        self._due = now + self._limits.request_seconds
        self._certificate = _names_in(transport.get_extra_info("ssl_object"))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._running:
            self._running.cancel()
        self._lost()

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        self._incoming.add(data)
        if not self._going_on:
            self._read_on()

    def _go_on(self) -> None:
        """Read on when it was others' turn."""
        self._going_on = self._going_on or self.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        """Have parsed what belongs to one request, and leave what follows until that has been answered."""
        self._going_on = None
        if self._refused or self.transport.is_closing():
            return
        try:
            for _ in range(_PIECES):
                if self._is_answering() or not (piece := self._incoming.next_piece()):
                    break
                self.parser.feed_data(piece)
            else:
                self._go_on()
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False  # CONNECT: what follows need not be HTTP
        except httptools.HttpParserError as error:
            cause = error.__context__
            self._refuse(cause if isinstance(cause, Refusal) else Refusal("This is no HTTP/1.1 request.", _MALFORMED))
        except Refusal as refusal:
            self._refuse(refusal)
        if self._is_full():
            self.flow.pause_reading()
        else:
            self.flow.resume_reading()

    def _is_full(self) -> bool:
        """Whether as much waits for the answer that is being given as may."""
        return len(self._incoming) > self._limits.head_bytes

    def _is_answering(self) -> bool:
        """Whether a request is there as a whole and its answer is not."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def on_message_begin(self) -> None:
        self._unset_keepalive_if_required()
        super().on_message_begin()
        self.scope["state"] = {"certificate": self._certificate}
        self._due = self.loop.time() + self._limits.request_seconds
        self._begun = True
        self._incoming.begin()
        self._head = 0

    def on_url(self, url: bytes) -> None:
        if b"#" in url:  # which would be dropped, unseen by whoever compared the path before (RFC 9112, 3.2)
            raise Refusal("The target of the request must have no fragment (#).", _MALFORMED)
        super().on_url(url)
        self._head += len(url)
        self._require_small(self._head)

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._incoming.in_head:
            return  # a trailer: what says who is calling must not come behind the body, past whoever looks at the head
        super().on_header(name, value.rstrip(b" \t"))  # RFC 9112, 5.1; the parser has done the beginning
        self._head += len(name) + len(value) + _OVERHEAD
        self._require_small(self._head)

    def on_headers_complete(self) -> None:
        length = self._require_sound()
        super().on_headers_complete()
        self._incoming.end_head(length)
        if self.loop.time() > self._ends:
            self.cycle.keep_alive = False

    def on_message_complete(self) -> None:
        self._due = math.inf
        self._incoming.end()
        if self.cycle.response_complete:
            self._wait_for_another()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._begun = False
        super().on_response_complete()
        if self.cycle.more_body:
            self._unset_keepalive_if_required()  # the rest of the request still has its own time
        if self._incoming:
            self._go_on()

    def _wait_for_another(self) -> None:
        """Close the connection if no request comes."""
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def retire(self) -> None:
        """Have the connection closed after the answer that is being given, or else after the next one."""
        self._ends = -math.inf
        if self.cycle:
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close the connection now if it is idle, or else after its answer."""
        self.retire()
        if not (self._begun or self._incoming):
            self.transport.close()

    def sweep(self, now: float) -> None:
        """Close the connection if the client takes too long."""
        if now > self._due and self._refused:
            self.transport.abort()
            return
        if now > self._due:
            message = f"The request did not arrive within {self._limits.request_seconds:g} s."
            self._refuse(Refusal(message, "REQUEST_TOO_SLOW", 408, StatusCode.DEADLINE_EXCEEDED))
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent != self._unsent:
            self._unsent, self._sent_at = unsent, now
        elif now - self._sent_at > self._limits.request_seconds:
            self.transport.abort()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:  # noqa: ANN401 - as uvicorn has it
        async def endable(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                if cycle.waiting_for_100_continue:
                    cycle.keep_alive = False  # whether what comes next is the body after all, nobody can tell
                is_end = cycle.response_started and not message.get("more_body")
                is_early = is_end and cycle.more_body and not cycle.keep_alive
                cycle.keep_alive |= is_early  # or it would be closed at once
                await send(message)
                if is_early:
                    self._hang_up()

            try:
                await app(scope, receive, sent)
            except asyncio.CancelledError:
                cycle.disconnected = True  # which spares it an answer

        # In a context of its own: the one of the request before knows who called then.
        run = cycle.run_asgi(cast("ASGI3Application", endable))
        self._running = self.loop.create_task(run, context=contextvars.Context())
        self.tasks.add(self._running)
        self._running.add_done_callback(self.tasks.discard)

    def _require_sound(self) -> int:
        """The length of the body that the head announces, 0 if it is not known.

        Raises Refusal for a head that leaves open what is asked for, or where the request ends.
        """
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        codings = [value.lower() for name, value in self.headers if name == b"transfer-encoding"]
        if version not in {"1.1", "1.0"}:
            raise Refusal("This server speaks HTTP/1.1, and 1.0.", _MALFORMED)
        if hosts > 1 or (hosts == 0 and version == "1.1"):  # RFC 9112, 3.2
            raise Refusal("The request must have exactly one header host.", _MALFORMED)
        if codings not in ([], [b"chunked"]) or (codings and version == "1.0"):
            raise Refusal("The header transfer-encoding may only be chunked, and only in HTTP/1.1.", _MALFORMED)
        length = int(dict(self.headers).get(b"content-length", 0))
        if self.parser.should_upgrade() and (codings or length):  # it would be taken for another protocol's
            raise Refusal("A request to CONNECT must have no body.", _MALFORMED)
        if length > CUT_OFF * self._limits.body_bytes:
            raise too_long(self._limits.body_bytes)
        return length

    def _require_small(self, head: int) -> None:
        if head > self._limits.head_bytes:
            raise too_large(self._limits.head_bytes)

    def _refuse(self, refusal: Refusal) -> None:
        """Say why no more requests are read, unless this one has been answered, and close."""
        is_waited_for = self.cycle is not None and not self.cycle.response_complete
        if is_waited_for:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.cycle is None or self._incoming.in_head or not self.cycle.response_started:
            answer = of_refusal(refusal)
            headers = [*self.server_state.default_headers, *answer.headers, (b"connection", b"close")]
            headers.append((b"content-length", b"%d" % len(answer.body)))
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[answer.status], lines, answer.body))
        self._hang_up()

    def _hang_up(self) -> None:
        """Close, and throw away until then what the client still sends.

        Closed at once, the connection would be reset where there is more to read, and the answer might be lost
        (RFC 9112, 9.6).
        """
        self._refused = True
        self._incoming.clear()
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self._due = self.loop.time() + _LAST_WORDS
        else:
            self.transport.close()


def _names_in(connection: ssl.SSLObject | None) -> Mapping[str, Sequence[bytes]]:
    """The names in the client's certificate, if it was verified, as gRPC's auth_context has them."""
    certificate: Mapping[str, Any] = (connection.getpeercert() if connection else None) or {}
    given: Sequence[tuple[str, str]] = certificate.get("subjectAltName", ())
    return {ours: [name.encode() for kind, name in given if kind == theirs] for theirs, ours in _KINDS.items()}
