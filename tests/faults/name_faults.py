"""Faults of name resolution: the server looks up its database's name at a name server that fails."""

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from psycopg.conninfo import make_conninfo

from tests.faults.campaign import SETTINGS
from tests.faults.fault import POSTGRESQL, Fault, Injection
from tests.faults.own_system import OwnSystem, missing_mounts
from tests.faults.system import System, running_system
from tests.proxy import Proxy

_POSTGRES = frozenset({POSTGRESQL})
_NAME = "database.test"
_SERVER = "127.0.0.77"
_ADDRESS, _OTHER = "127.0.0.1", "127.0.0.2"
_NO_ERROR, _SERVER_FAILURE, _NO_SUCH_NAME = 0, 2, 3
_A = 1
_HEADER = struct.Struct(">HHHHHH")
# The server runs in a mount namespace of its own, in which this file stands in the place of the machine's.
_BIND = 'mount --bind {folder}/resolv.conf /etc/resolv.conf && exec "$@"'


class NameServer:
    """Answers every question for an IPv4 address with the same one (RFC 1035), or fails as it is told."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((_SERVER, 53))
        self.address = _ADDRESS
        self.code = _NO_ERROR
        self.delay: float | None = 0.0
        """Time before an answer (s); None for none at all."""
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                question, client = self._socket.recvfrom(512)
            except OSError:
                return
            if self.delay is not None:
                threading.Timer(self.delay, self._answer, (question, client)).start()

    def _answer(self, question: bytes, client: tuple[str, int]) -> None:
        number = _HEADER.unpack_from(question)[0]
        end = question.index(b"\0", _HEADER.size) + 5  # the name ends with an empty label; then type and class
        [kind] = struct.unpack_from(">H", question, end - 4)
        answers = kind == _A and self.code == _NO_ERROR
        head = _HEADER.pack(number, 0x8180 | self.code, 1, int(answers), 0, 0)
        answer = struct.pack(">HHHIH", 0xC00C, _A, 1, 0, 4) + socket.inet_aton(self.address) if answers else b""
        try:
            self._socket.sendto(head + question[_HEADER.size : end] + answer, client)
        except OSError:
            return  # it is closed

    def close(self) -> None:
        self._socket.close()


_servers: dict[Path, NameServer] = {}


@contextmanager
def _name_server(folder: Path) -> Iterator[None]:
    (folder / "resolv.conf").write_text(f"nameserver {_SERVER}\n")
    server = _servers[folder] = NameServer()
    try:
        yield
    finally:
        server.close()
        del _servers[folder]


def _by_name(kind: str) -> AbstractContextManager[System]:
    return running_system(
        kind,
        settings=SETTINGS,
        prefix=("unshare", "--mount", "--propagation", "private", "sh", "-c", _BIND, "sh"),
        mount=_name_server,
        url_of=lambda url: make_conninfo(url, host=_NAME),
    )


def _resolves(*, code: int = _NO_ERROR, delay: float | None = 0.0, address: str = _ADDRESS) -> Injection:
    """Change the name server's answers, and cut all connections, so that the name is looked up again."""

    @contextmanager
    def resolved(system: System) -> Iterator[None]:
        server = _servers[system.folder]
        assert system.proxy
        server.code, server.delay, server.address = code, delay, address
        system.proxy.cut()
        try:
            yield
        finally:
            server.code, server.delay, server.address = _NO_ERROR, 0.0, _ADDRESS

    return resolved


@contextmanager
def moved(system: System) -> Iterator[None]:
    """Move the database to another address, which its name then stands for."""
    server, proxy = _servers[system.folder], system.proxy
    assert proxy
    other = Proxy(system.admin_url, host=_OTHER, port=int(proxy.address.rpartition(":")[2]))
    proxy.stop_listening()
    server.address = _OTHER
    try:
        yield
    finally:
        proxy.listen_again()
        server.address = _ADDRESS
        other.close()


OWN_SYSTEMS = (
    OwnSystem(
        _by_name,
        (
            Fault("host name unknown (NXDOMAIN)", _resolves(code=_NO_SUCH_NAME), _POSTGRES),
            Fault("name server fails (SERVFAIL)", _resolves(code=_SERVER_FAILURE), _POSTGRES),
            Fault("name server silent", _resolves(delay=None), _POSTGRES, seconds=2, recovers_within=15),
            Fault("name server slow (1 s)", _resolves(delay=1.0), _POSTGRES, seconds=2),
            Fault("host name leads nowhere", _resolves(address=_OTHER), _POSTGRES),
            Fault("host name leads to another address", moved, _POSTGRES),
        ),
        missing_mounts(),
    ),
)
