"""The measured servers; each is a process of its own on a database of its own."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.load import LoadFailed, Unavailable, go_program
from bench.machine import ROOT, cores, tree

_PEERS = ROOT / "bench" / "peers"
_PATIENCE = 30  # s; to start, and to stop
_BENCH_PYTHON = ROOT / ".venv-bench" / "bin" / "python"

EVERY = ("GetTask", "CreateTask", "ListTasks", "UpdateTask", "CompleteTask", "DeleteTask")
BASIC = EVERY[:3]


@dataclass(frozen=True, slots=True)
class Contender:
    """A server that can be measured."""

    name: str
    label: str
    command: Callable[[str], Sequence[str]]
    """Makes the command line for a database. Raises Unavailable."""
    methods: tuple[str, ...] = BASIC
    stores: bool = True
    """True if its calls write to the service's tables."""
    listening: str = "gRPC|HTTP"
    """The name under which it announces the measured address."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts calls."""

    address: str
    pid: int
    log: Path
    """Its standard error."""


def _python(peer: str) -> Callable[[str], Sequence[str]]:
    return lambda database: [sys.executable, str(_PEERS / f"{peer}.py"), database]


def _replaced(database: str) -> Sequence[str]:
    if not _BENCH_PYTHON.exists():
        raise Unavailable(".venv-bench is missing: 'make bench' makes it")
    return [str(_BENCH_PYTHON), str(_PEERS / "replaced.py"), database]


def _pgx(database: str) -> Sequence[str]:
    return [str(go_program("peers/pgx")), database]


def taskwell(workers: int, *more: str) -> Callable[[str], Sequence[str]]:
    """`taskwell serve` with workers and metrics. Leaves out options that this version does not know."""

    def command(database: str) -> Sequence[str]:
        wanted = {"--workers": str(workers), "--metrics-address": "127.0.0.1:0"}
        if workers > 1 and "--workers" not in _flags():
            raise Unavailable("taskwell serve has no --workers")
        known = [f"{flag}={value}" for flag, value in wanted.items() if flag in _flags()]
        return [*_SERVE, "--grpc-address=127.0.0.1:0", f"--database-url={database}", *known, *more]

    return command


def _uncoalesced(database: str) -> Sequence[str]:
    if _UNCOALESCED not in _flags():
        raise Unavailable(f"taskwell serve has no {_UNCOALESCED}")
    return taskwell(1, _UNCOALESCED)(database)


_UNCOALESCED = "--no-coalesce"
_SERVE = (str(Path(sys.executable).with_name("taskwell")), "serve")


@cache
def _flags() -> frozenset[str]:
    said = subprocess.run([*_SERVE, "--help"], capture_output=True, text=True, check=True)
    return frozenset(re.findall(r"--[a-z-]+", said.stdout))


EMPTY = Contender("empty", "empty grpc.aio handler", _python("empty"), EVERY, stores=False)
ONE_WORKER = Contender("taskwell-1", "Taskwell, 1 worker", taskwell(1), EVERY)
UNCOALESCED = Contender("uncoalesced", "Taskwell, a statement per call", _uncoalesced, BASIC[:2])
WORKERS = Contender("taskwell-n", f"Taskwell, {cores()} workers", taskwell(cores()), EVERY)
TEXTBOOK = Contender("textbook", "thread pool, ORM session per call", _python("textbook"))
REPLACED = Contender("replaced", "FastAPI + SQLModel", _replaced, stores=False)
PGX = Contender("pgx", "grpc-go + pgx", _pgx)


@contextmanager
def running(contender: Contender, database: str) -> Iterator[Running]:
    """Start a server, wait for its address, and stop it when the block is left. Raises Unavailable."""
    command = contender.command(database)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKWELL_")}
    with tempfile.TemporaryDirectory(prefix="taskwell-bench-") as folder:  # no .env is read there
        log = Path(folder) / "stderr"
        with log.open("wb") as errors:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=errors)
        try:
            yield Running(_listening(process, contender.listening, log), process.pid, log)
        finally:
            _stop(process)


def _listening(process: subprocess.Popen[bytes], what: str, log: Path) -> str:
    """The address that the server announces."""
    assert process.stdout
    impatience = threading.Timer(_PATIENCE, process.kill)
    impatience.start()
    try:
        for line in process.stdout:
            if found := re.search(rf"^(?:{what}) listening on (\S+)", line.decode()):
                return found[1]
    finally:
        impatience.cancel()
    process.wait(_PATIENCE)
    raise LoadFailed(f"{process.args!r} did not start: {log.read_text()[-1000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        for member in tree(process.pid):
            os.kill(member.pid, signal.SIGKILL)
        process.wait()
    if process.stdout:
        process.stdout.close()
