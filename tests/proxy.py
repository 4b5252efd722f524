"""A TCP proxy in front of a database or a service that can refuse, cut or stall connections and drop responses."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from psycopg.conninfo import conninfo_to_dict, make_conninfo


class Proxy:
    """Forwards connections from a free port to a Unix socket or a host."""

    def __init__(self, conninfo: str) -> None:
        known = conninfo_to_dict(conninfo)
        host, port = str(known.get("host") or "127.0.0.1"), int(known.get("port") or 5432)
        self._target: str | tuple[str, int] = f"{host}/.s.PGSQL.{port}" if host.startswith("/") else (host, port)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self._refusing = False
        self._swallowing = False
        self._silent: set[socket.socket] = set()
        self._breaks_one = False
        self.swallowed = threading.Event()
        """Set when a response was dropped."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.conninfo = make_conninfo(conninfo, host="127.0.0.1", port=port)
        self.address = f"127.0.0.1:{port}"
        self.connections = 0
        """Number of connections accepted so far."""
        threading.Thread(target=self._accept, daemon=True).start()

    def refuse(self) -> None:
        """Act as a server that is down: cut all connections and close new ones at once."""
        self._refusing = True
        self.cut()

    def accept(self) -> None:
        self._refusing = False

    def cut(self) -> None:
        """Cut all connections, as a restart does."""
        pairs, self._pairs = self._pairs, []
        for end in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

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

    def freeze(self) -> None:
        """Forward nothing more on the connections that exist, and keep them open, as a process that hangs does."""
        self._silent = {end for pair in self._pairs for end in pair}

    def swallow_answers(self) -> None:
        """Drop the next response and cut its connection: the request took effect, but its client does not know."""
        self._swallowing = True

    def close(self) -> None:
        self.flow()
        self._listener.close()
        self.refuse()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self._refusing:
                near.close()
                continue
            self.connections += 1
            far = socket.socket(socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET)
            far.connect(self._target)
            for end in (near, far):
                if end.family == socket.AF_INET:
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._pairs.append((near, far))
            for source, sink, answers in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._forward, args=(source, sink, answers), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._flowing.wait()
                if source in self._silent:
                    if self._breaks_one:
                        self._breaks_one = False
                        break
                    continue
                if answers and self._swallowing:
                    self._swallowing = False
                    self.swallowed.set()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@contextmanager
def proxied(conninfo: str) -> Iterator[Proxy]:
    proxy = Proxy(conninfo)
    try:
        yield proxy
    finally:
        proxy.close()


def in_front_of(address: str) -> contextlib.AbstractContextManager[Proxy]:
    """Return a proxy in front of a service at host:port."""
    host, _, port = address.rpartition(":")
    return proxied(make_conninfo(host=host, port=port))
