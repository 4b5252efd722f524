"""PostgreSQL servers of a test's own: killed, promoted, with a full disk or with few connections.

The servers are those of the wheel; as root they run as another user, because PostgreSQL refuses root.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.postgres import programs

TIMEOUT = 60.0
"""Limit of every wait for a server (s)."""
_USER = "nobody"
_SETTINGS = """
listen_addresses = ''
unix_socket_directories = '{folder}'
shared_buffers = 16MB
wal_keep_size = 64MB
fsync = off
full_page_writes = off
restart_after_crash = on
"""


class Node:
    """A PostgreSQL server on a Unix socket. It keeps its address when it is started again."""

    def __init__(self, folder: Path, executables: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        self._executables = executables
        self.url = make_conninfo(host=str(folder), dbname="postgres", user="postgres")

    def create(self, *options: str, settings: str = "") -> None:
        """Make an empty database cluster."""
        _own(self.folder)
        self.run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync", *options)
        self.configure(_SETTINGS.format(folder=self.folder) + settings)

    def clone(self, other: "Node") -> None:
        """Become a standby of another server."""
        _own(self.folder)
        shutil.rmtree(self.data, ignore_errors=True)
        self.run("pg_basebackup", "-D", str(self.data), "-d", other.url, "-c", "fast", "-R", "--no-sync")
        self.configure(f"unix_socket_directories = '{self.folder}'\n")

    def configure(self, text: str) -> None:
        """Append to the configuration."""
        with (self.data / "postgresql.conf").open("a") as configuration:
            configuration.write(text)

    def start(self) -> None:
        """Start the server, and return when it accepts connections."""
        self.run("pg_ctl", "start", "-D", str(self.data), "-l", str(self.folder / "log"), "-t", str(int(TIMEOUT)))

    def stop(self) -> None:
        """End the server if it runs, whatever state it is in."""
        with suppress(subprocess.CalledProcessError):
            self.run("pg_ctl", "stop", "-D", str(self.data), "-m", "immediate", "-t", str(int(TIMEOUT)))

    @property
    def pid(self) -> int:
        """The process id of the postmaster."""
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def runs(self) -> bool:
        """True if the postmaster has not ended, though it may be recovering."""
        with suppress(FileNotFoundError):
            return Path(f"/proc/{self.pid}").exists()
        return False

    def children(self) -> list[int]:
        """The process ids of the server's other processes."""
        return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to every process of the server, the postmaster first."""
        for pid in (self.pid, *self.children()):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill_postmaster(self) -> None:
        """Kill the postmaster alone. Its children notice, and end by themselves."""
        os.kill(self.pid, signal.SIGKILL)

    def start_again(self) -> None:
        """Start after a kill: as soon as the last process of the one before has ended."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            try:
                return self.start()
            except subprocess.CalledProcessError:
                assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.1)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement as the superuser and answer its rows."""
        with psycopg.connect(self.url, autocommit=True, connect_timeout=10) as admin:
            cursor = admin.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs."""
        prefix = ["runuser", "-u", _USER, "--"] if os.geteuid() == 0 else []
        subprocess.run(
            [*prefix, str(self._executables / program), *arguments],
            check=True,
            timeout=TIMEOUT * 2,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )


def _own(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0:
        shutil.chown(folder, _USER, pwd.getpwnam(_USER).pw_gid)


@contextmanager
def nodes(*names: str) -> Iterator[Sequence[Node]]:
    """Servers that are neither created nor started yet. They are ended, and removed."""
    # A short path: that of a Unix socket has at most 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="taskwell-", dir="/tmp"))
    folder.chmod(0o755)
    executables = programs(folder)
    found = [Node(folder / name, executables) for name in names]
    try:
        yield found
    finally:
        for node in found:
            node.stop()
        shutil.rmtree(folder, ignore_errors=True)
