"""The system under test: `taskwell serve` as a process, its database, and a proxy between them."""

import functools
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.cluster import Node
from tests.faults.pooler import Pooler, running_pooler
from tests.faults.ports import free_port
from tests.postgres import fresh_database, running_postgres
from tests.proxy import Proxy, proxied

SQLITE, POSTGRESQL, PGBOUNCER = "SQLite", "PostgreSQL", "PgBouncer"

ROLE = "taskwell_under_faults"
"""The role of the service in the database."""
TIMEOUT = 60.0
"""Limit of every wait for a process (s)."""


class ServerProcess:
    """`taskwell serve` on one address for all its lives, with its log in a file.

    `launcher` replaces `python -m service`: that of the seeded bugs starts a broken server. In `environment`,
    {folder} stands for the folder. `prefix` is a command that runs the server's.
    """

    def __init__(
        self,
        folder: Path,
        database_url: str,
        *,
        launcher: Sequence[str] = ("service",),
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.database_url = database_url
        self.address = f"127.0.0.1:{free_port()}"
        self.log = folder / "server.log"
        self._launcher = launcher
        self._prefix = [part.format(folder=folder) for part in prefix]
        self._settings = settings or {}
        self._environment = {name: value.format(folder=folder) for name, value in (environment or {}).items()}
        self._process: subprocess.Popen[str] | None = None

    @property
    def pid(self) -> int:
        """The process id; of the supervisor where there are several workers."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    def start(self) -> None:
        """Start the server and return when it accepts calls."""
        settings = {
            "GRPC_ADDRESS": self.address,
            "DATABASE_URL": self.database_url,
            "MIGRATE": "true",
            "WORKERS": "1",
            "LOG_LEVEL": "warning",
            **self._settings,
        }
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                [*self._prefix, sys.executable, "-m", *self._launcher, "serve"],
                env={
                    **os.environ,
                    **self._environment,
                    **{f"TASKWELL_{name}": value for name, value in settings.items()},
                },
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("gRPC listening on "), (line, self.log.read_text()[-2000:])

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for the end of the process and return its exit status."""
        assert self._process is not None, "the server does not run"
        return self._process.wait(TIMEOUT)

    def start_if_ended(self) -> None:
        """Start the server if its process has ended."""
        if self._process and self._process.poll() is not None:
            self.kill()
            self.start()

    def kill(self) -> None:
        """End the process at once, if it runs."""
        if self._process:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def restart(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the process with a signal, start it again, and return the exit status of the first."""
        self.send(number)
        status = self.wait()
        self.kill()
        self.start()
        return status


@dataclass
class System:
    """A running server and what faults can be done to."""

    kind: str
    """SQLite, PostgreSQL or PgBouncer."""
    server: ServerProcess
    folder: Path
    """A folder for this system alone."""
    proxy: Proxy | None = None
    """Stands between the server and the database, or the pooler."""
    pooler: Pooler | None = None
    behind_pooler: Proxy | None = None
    """Stands between the pooler and the database."""
    admin_url: str = ""
    """The database itself, past proxy and pooler."""
    nodes: Sequence[Node] = ()
    """Database servers of this system's own, the primary first."""
    cleanup: ExitStack = field(default_factory=ExitStack)
    """What a fault leaves behind until the system ends."""

    @property
    def database_name(self) -> str:
        return str(conninfo_to_dict(self.admin_url)["dbname"])


Servers = Callable[[], AbstractContextManager[Sequence[Node]]]


@contextmanager
def running_system(
    kind: str,
    *,
    launcher: Sequence[str] = ("service",),
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    prefix: Sequence[str] = (),
    mount: Callable[[Path], AbstractContextManager[object]] = nullcontext,
    servers: Servers | None = None,
    url_of: Callable[[str], str] = str,
) -> Iterator[System]:
    """Run a system of this kind on an empty database.

    `mount` prepares its folder, `servers` starts database servers of its own, and `url_of` changes the server's URL of
    the database.
    """
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-faults-")))
        running.enter_context(mount(folder))
        launch = functools.partial(
            ServerProcess, folder, launcher=launcher, settings=settings, environment=environment, prefix=prefix
        )
        if kind == SQLITE:
            system = System(kind, launch(f"sqlite:///{folder / 'taskwell.db'}"), folder)
        else:
            system = _system(kind, folder, running, lambda url: launch(url_of(url)), servers)
        running.enter_context(system.cleanup)
        running.callback(system.server.kill)
        system.server.start()
        yield system


def _system(
    kind: str, folder: Path, running: ExitStack, launch: Callable[[str], ServerProcess], servers: Servers | None
) -> System:
    own: Sequence[Node] = ()
    if servers:
        own = running.enter_context(servers())
        own[0].execute("CREATE DATABASE taskwell")
        admin_url = make_conninfo(own[0].url, dbname="taskwell")
    else:
        admin_url = running.enter_context(fresh_database(running.enter_context(running_postgres())))
    url = make_conninfo(admin_url, user=_service_role(admin_url))
    pooler = behind = None
    if kind == PGBOUNCER:
        behind = running.enter_context(proxied(url))
        pooler = running.enter_context(running_pooler(folder, behind.conninfo))
    proxy = running.enter_context(proxied(pooler.conninfo if pooler else url))
    server = launch(proxy.conninfo)
    return System(kind, server, folder, proxy, pooler, behind, admin_url, own)


def _service_role(admin_url: str) -> str:
    """Make the database that of a role without privileges, for which limits apply."""
    with psycopg.connect(admin_url, autocommit=True) as admin:
        with suppress(psycopg.errors.DuplicateObject):
            admin.execute(f"CREATE ROLE {ROLE} LOGIN")
        admin.execute(f"ALTER DATABASE {admin.info.dbname} OWNER TO {ROLE}")
    return ROLE
