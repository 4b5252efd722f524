"""PgBouncer in transaction mode, as a process. Debian's package has it: apt-get install pgbouncer."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.faults.ports import free_port

TIMEOUT = 30.0
"""Limit of every wait for the process (s)."""
_NOBODY = 65534
_SETTINGS = {
    "auth_type": "any",
    "pool_mode": "transaction",
    "default_pool_size": "20",
    "max_client_conn": "200",
    "server_login_retry": "1",  # s; 15 by default, during which everybody is refused
    "server_round_robin": "1",  # so that a client meets many sessions
    "ignore_startup_parameters": "extra_float_digits",
}


def program() -> str | None:
    """The path of PgBouncer, if it is installed."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


class Pooler:
    """PgBouncer in front of a database. It keeps its port when it is restarted."""

    def __init__(self, folder: Path, conninfo: str, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._database = conninfo
        host = str(conninfo_to_dict(conninfo)["host"])
        # Where the database runs as another user than root, only that user may enter the folder of its socket.
        user = Path(host).stat().st_uid if host.startswith("/") else _NOBODY
        self._identity = ["-u", pwd.getpwuid(user).pw_name] if os.geteuid() == 0 else []
        self._process: subprocess.Popen[bytes] | None = None
        self._port = free_port()
        known = conninfo_to_dict(conninfo)
        name = str(known["dbname"])
        self.conninfo = make_conninfo(host="127.0.0.1", port=self._port, dbname=name, user=known["user"])
        self._settings = {**_SETTINGS, **(settings or {})}
        self.configure()

    def configure(self, **changes: str) -> None:
        """Write the file of settings, with these instead of the usual ones. Takes effect at a start or reload."""
        known = {key: value for key, value in conninfo_to_dict(self._database).items() if value}
        target = {key: known[key] for key in ("host", "port", "dbname") if key in known}
        line = " ".join(f"{key}={value}" for key, value in target.items())
        settings = {"listen_addr": "127.0.0.1", "listen_port": str(self._port), "unix_socket_dir": ""}
        settings |= {"admin_users": str(known["user"]), **self._settings, **changes}
        text = f"[databases]\n{known['dbname']} = {line} user={known['user']}\n\n[pgbouncer]\n"
        (self._folder / "pgbouncer.ini").write_text(text + "".join(f"{key} = {settings[key]}\n" for key in settings))

    def start(self) -> None:
        """Start the process and return when it accepts connections."""
        executable = program()
        assert executable, "PgBouncer is not installed"
        with (self._folder / "pgbouncer.log").open("ab") as log:
            # It changes the user itself: Popen would have to fork for that, in which gRPC's threads may be in the way.
            arguments = [executable, "-q", *self._identity, str(self._folder / "pgbouncer.ini")]
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        deadline = monotonic() + TIMEOUT
        while True:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                return
            assert monotonic() < deadline, (self._folder / "pgbouncer.log").read_text()[-2000:]
            sleep(0.02)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        assert self._process, "PgBouncer does not run"
        self._process.send_signal(number)

    def verify_runs(self) -> None:
        """Fail if the process has ended by itself: no fault does that."""
        ended = self._process and self._process.poll() is not None
        assert not ended, (self._folder / "pgbouncer.log").read_text()[-2000:]

    def stop(self) -> None:
        """Kill the process, if it runs."""
        if self._process:
            self._process.kill()
            self._process.wait(TIMEOUT)
            self._process = None

    def command(self, text: str) -> list[tuple[Any, ...]]:
        """Run a command of the admin console and answer its rows."""
        with psycopg.connect(
            make_conninfo(self.conninfo, dbname="pgbouncer"), autocommit=True, connect_timeout=10
        ) as admin:
            cursor = psycopg.ClientCursor(admin).execute(text)
            return cursor.fetchall() if cursor.description else []


@contextmanager
def running_pooler(folder: Path, conninfo: str, settings: Mapping[str, str] | None = None) -> Iterator[Pooler]:
    """Run PgBouncer in front of a database."""
    folder.chmod(0o755)  # it refuses to run as root and then runs as another user
    pooler = Pooler(folder, conninfo, settings)
    try:
        pooler.start()
        yield pooler
    finally:
        pooler.stop()
