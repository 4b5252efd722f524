"""Messages of PostgreSQL's protocol, version 3, and what a proxy can do to one of them.

https://www.postgresql.org/docs/current/protocol-message-formats.html
"""

import random
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

STARTUP = b"startup"
"""The kind of a client's first messages, which have no type byte."""
_PROTOCOL_3 = 3
_HEADER, _STARTUP_HEADER = 5, 8
"""Bytes of a message until its length, or its protocol version, is known."""
_LEAST, _MOST = 4, 2**24
"""A length outside means that this is another protocol, encryption for one."""
_SSL_ANSWERS = (b"N", b"S", b"G")


class Message(NamedTuple):
    """One message; its kind is its type byte."""

    kind: bytes
    data: bytes


class Stop(Exception):
    """The connection ends here."""


@dataclass(frozen=True, slots=True)
class Link:
    """One direction of a connection through the proxy."""

    source: socket.socket
    sink: socket.socket
    from_server: bool

    @property
    def client(self) -> socket.socket:
        """The end at which the client is."""
        return self.sink if self.from_server else self.source


class Messages:
    """Splits the bytes of one direction of a connection into messages."""

    def __init__(self, *, from_server: bool, is_framed: bool = True) -> None:
        self._rest = b""
        self._from_server = from_server
        self._is_startup = not from_server
        self._is_first = True
        self._is_framed = is_framed

    def split(self, data: bytes) -> Iterator[Message]:
        """The messages that are complete with these bytes. What is no such protocol is passed on as it comes."""
        if self._from_server and self._is_first and data in _SSL_ANSWERS:
            yield Message(b"", data)
            return
        buffer, at = self._rest + data, 0
        while self._is_framed and (size := self._size(buffer, at)) and at + size <= len(buffer):
            message, at = buffer[at : at + size], at + size
            self._is_first = False
            kind = STARTUP if self._is_startup else message[:1]
            if self._is_startup:
                self._is_startup = struct.unpack_from("!h", message, 4)[0] != _PROTOCOL_3
            yield Message(kind, message)
        self._rest = buffer[at:]
        if not self._is_framed and self._rest:
            yield Message(b"", self._rest)
            self._rest = b""

    def skip(self, data: bytes) -> None:
        """Follow bytes that are forwarded as they come."""
        for _ in self.split(data):
            pass

    def _size(self, buffer: bytes, at: int) -> int:
        """The length of the message that begins here; 0 while it is not known."""
        before = 0 if self._is_startup else 1
        if len(buffer) - at < (_STARTUP_HEADER if self._is_startup else _HEADER):
            return 0
        size = int(struct.unpack_from("!i", buffer, at + before)[0])
        self._is_framed = _LEAST <= size < _MOST
        return before + size if self._is_framed else 0


Action = Callable[[Link, bytes], bytes | None]
"""Returns what to send in the place of a message; None silences the connection for good. Raises Stop to cut it."""


@dataclass(eq=False)
class Rule:
    """What happens to messages of some kinds."""

    kinds: tuple[bytes, ...]
    action: Action
    from_server: bool = False
    times: int = 1
    """How many messages are treated."""
    spares: int = 0
    """How many messages are let through before."""
    done: int = field(default=0, init=False)
    """How many messages were treated so far."""

    def takes(self, link: Link, message: Message) -> bool:
        """True if this message is to be treated. Counts it."""
        if link.from_server is not self.from_server or message.kind not in self.kinds or self.done >= self.times:
            return False
        if self.spares:
            self.spares -= 1
            return False
        self.done += 1
        return True


def cut_before(_link: Link, _data: bytes) -> None:
    """Cut the connection in the place of a message."""
    raise Stop


def cut_after(link: Link, data: bytes) -> None:
    """Cut the connection after a message."""
    link.sink.sendall(data)
    raise Stop


def cut_within(link: Link, data: bytes) -> None:
    """Cut the connection in the middle of a message."""
    link.sink.sendall(data[: len(data) // 2])
    raise Stop


def reset(link: Link, _data: bytes) -> None:
    """Reset the connection in the place of a message."""
    link.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Stop


def silence(_link: Link, _data: bytes) -> None:
    """Forward nothing from this message on, and keep the connection open."""


def half_close(link: Link, _data: bytes) -> bytes:
    """Close the direction of a message in its place, and leave the other one open."""
    link.sink.shutdown(socket.SHUT_WR)
    return b""


def garbage(_link: Link, data: bytes) -> bytes:
    """Replace a message by chance bytes."""
    return random.Random(len(data)).randbytes(len(data))


def drop(_link: Link, _data: bytes) -> bytes:
    """Leave a message out."""
    return b""


def delay(seconds: float) -> Action:
    """Hold a message, and all that come after it, for some time."""

    def late(_link: Link, data: bytes) -> bytes:
        time.sleep(seconds)
        return data

    return late


def drip(pause: float) -> Action:
    """Send a message byte by byte."""

    def slowly(link: Link, data: bytes) -> bytes:
        for at in range(len(data)):
            link.sink.sendall(data[at : at + 1])
            time.sleep(pause)
        return b""

    return slowly


def error(sqlstate: str, severity: str = "FATAL", *, cuts: bool = True) -> Action:
    """Answer an ErrorResponse to the client in the place of a message."""
    fields = f"S{severity}\0V{severity}\0C{sqlstate}\0Mmade by a test\0\0".encode()
    response = b"E" + struct.pack("!i", len(fields) + 4) + fields

    def refused(link: Link, _data: bytes) -> bytes:
        link.client.sendall(response)
        if cuts:
            raise Stop
        return b""

    return refused
