"""A TCP proxy in front of a database or a service that can refuse, cut or stall connections and drop responses.

In front of PostgreSQL it knows where messages begin and end, so that a fault can hit one of them (tests/messages.py).
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.messages import Link, Message, Messages, Rule, Stop


class Proxy:
    """Forwards connections from a free port to a Unix socket or a host."""

    def __init__(self, conninfo: str, *, is_postgres: bool = True, host: str = "127.0.0.1", port: int = 0) -> None:
        self._is_postgres = is_postgres
        self.retarget(conninfo)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._swallowing = False
        self._silent: set[socket.socket] = set()
        self._breaks_one = False
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self.swallowed = threading.Event()
        """Set when a response was dropped."""
        self._host = host
        self._listener = socket.create_server((host, port))
        self._port = self._listener.getsockname()[1]
        self.conninfo = make_conninfo(conninfo, host=host, port=self._port)
        self.address = f"{host}:{self._port}"
        self.connections = 0
        """Number of connections accepted so far."""
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def retarget(self, conninfo: str) -> None:
        """Forward new connections to another server."""
        known = conninfo_to_dict(conninfo)
        host, port = str(known.get("host") or "127.0.0.1"), int(known.get("port") or 5432)
        self._target: str | tuple[str, int] = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)

    def refuse(self) -> None:
        """Act as a server that is down: cut all connections and close new ones at once."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def stop_listening(self) -> None:
        """Act as a machine on which nothing listens: cut all connections; new ones are refused by the system."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # or the thread in accept() would keep the port open
        self._listener.close()
        self.cut()

    def listen_again(self) -> None:
        self._listener = socket.create_server((self._host, self._port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Cut all connections, as a restart does."""
        pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """Reset all connections, as a firewall does that forgot them."""
        for near, _ in self._pairs:
            with contextlib.suppress(OSError):
                near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.cut()

    def half_close(self) -> None:
        """Close the server's direction of all connections and leave the other one open."""
        for near, _ in self._pairs:
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_WR)

    def hold(self) -> None:
        """Forward nothing in either direction and keep connections open, as a network that drops packets does."""
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    def lose_peers(self) -> None:
        """Forward nothing on the existing connections, as after a failover; new connections work.

        The first one in use breaks, as after a TCP timeout; the others stay silent.
        """
        self.freeze()
        self._breaks_one = True

    def freeze(self, every: int = 1) -> None:
        """Forward nothing more on the connections that exist, and keep them open, as a process that hangs does.

        With `every` 2, on half of them.
        """
        self._silent |= {end for pair in self._pairs[::every] for end in pair}

    def swallow_answers(self) -> None:
        """Drop the next response and cut its connection: the request took effect, but its client does not know."""
        self._swallowing = True

    def apply(self, rule: Rule) -> None:
        """Treat messages that the rule matches as it says, as often as it says."""
        with self._lock:
            self._rules.append(rule)

    def remove(self, rule: Rule) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._rules.remove(rule)

    def close(self) -> None:
        self._rules.clear()
        self.flow()
        self._listener.close()
        self.refuse()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            if self._refusing:
                near.close()
                continue
            self.connections += 1
            far = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
            try:
                far.connect(self._target)
            except OSError:
                near.close()  # the server is away
                far.close()
                continue
            for end in (near, far):
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((near, far))
            for link in (Link(near, far, from_server=False), Link(far, near, from_server=True)):
                threading.Thread(target=self._forward, args=(link,), daemon=True).start()

    def _forward(self, link: Link) -> None:
        messages = Messages(from_server=link.from_server, is_framed=self._is_postgres)
        with contextlib.suppress(OSError, Stop):
            while data := link.source.recv(65536):
                self._flowing.wait()
                if link.source in self._silent:
                    if self._breaks_one:
                        self._breaks_one = False
                        break
                    continue
                if link.from_server and self._swallowing:
                    self._swallowing = False
                    self.swallowed.set()
                    break
                if not self._rules:
                    messages.skip(data)
                    link.sink.sendall(data)
                    continue
                for message in messages.split(data):
                    self._treat(link, message)
        for end in (link.source, link.sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _treat(self, link: Link, message: Message) -> None:
        """Send one message, or do what the first rule says that matches it."""
        if link.source in self._silent:
            return
        with self._lock:
            rule = next((rule for rule in self._rules if rule.takes(link, message)), None)
        data = rule.action(link, message.data) if rule else message.data
        if data is None:  # silent from here on
            self._silent |= {link.source, link.sink}
        elif data:
            link.sink.sendall(data)


@contextmanager
def proxied(conninfo: str, *, is_postgres: bool = True) -> Iterator[Proxy]:
    proxy = Proxy(conninfo, is_postgres=is_postgres)
    try:
        yield proxy
    finally:
        proxy.close()


def in_front_of(address: str) -> contextlib.AbstractContextManager[Proxy]:
    """Return a proxy in front of a service at host:port."""
    host, _, port = address.rpartition(":")
    return proxied(make_conninfo(host=host, port=port), is_postgres=False)
