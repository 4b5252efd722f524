"""Supervises several processes of one command: starts them, restarts those that die or hang, stops them together.

The supervisor knows nothing of what the processes do, and imports little: it stays in memory beside them. It talks to
each process over the process's standard streams:

- Output: the announcement, a NUL byte when the process is ready, then a heartbeat each second (heartbeat.py). A process
  without heartbeats is killed and restarted. The supervisor prints one announcement, when all processes are ready.
- Input: end of file tells the process to shut down. (A signal would not do: terminals and service managers send theirs
  to every process, and a process takes a second signal as "stop at once".)

When the supervisor is killed, the kernel kills its processes (parent_death.py): none is left behind on the address.
"""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal, Protocol

import structlog

from service.server.heartbeat import INTERVAL, READY

_log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """Backoff between restarts, and limits; times in seconds."""

    backoff: float = 0.1
    """Before a process is restarted; doubled after each exit."""
    max_backoff: float = 10.0
    reset_after: float = 60.0
    """A process that ran for this long is restarted with the first backoff again."""
    max_failed_starts: int = 5
    """When each process exited this many times in a row, and none was ever ready, the supervisor gives up."""
    start_timeout: float = 60.0
    """Time for a process to become ready; then it is killed."""
    heartbeat_timeout: float = 10.0
    """Time without a heartbeat after which a process is killed."""
    grace: float = 30.0
    """Time for processes to exit after `stop`; then they are killed."""


class Observer(Protocol):
    """Hooks that metrics implement, so that the supervisor does not import them."""

    def on_ready(self, count: int) -> None:
        """Record how many processes are ready."""

    def on_restart(self, worker: int, cause: Literal["exit", "hang", "start"]) -> None:
        """Record that a process ended: after it was ready, killed because it hung, or before it was ready."""

    def on_heartbeat_age(self, worker: int, seconds: float) -> None:
        """Record the time since a process was last heard of (s), once a second."""


class WorkersFailed(Exception):
    """The processes do not start; the message says how the last one exited."""


class Supervisor:
    """Keeps `count` processes of a command running until `stop`.

    A process gets its number, from 1, as its last argument. `announce` is called once, with the announcement of one
    process.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        announce: Callable[[str], None],
        policy: RestartPolicy,
        observer: Observer | None = None,
    ) -> None:
        self._command = command
        self._count = count
        self._announce = announce
        self._policy = policy
        self._observer = observer
        self._running: dict[int, Process] = {}
        self._ready: set[int] = set()
        self._was_ever_ready = False
        self._is_debugging = False
        self._hung: set[int] = set()
        self._heard: set[int] = set()
        self._announcement = ""
        self._announced = False
        self._failed_starts = dict.fromkeys(range(1, count + 1), 0)
        self._stopping = asyncio.Event()
        self._gave_up = ""
        self._clean = True

    async def run(self) -> bool:
        """Run until all processes have exited after `stop`; return True if each exited with status 0.

        Raises WorkersFailed if no process becomes ready.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._count + 1):
                group.create_task(self._keep_running(number))
        if self._gave_up:
            raise WorkersFailed(self._gave_up)
        return self._clean

    def stop(self) -> None:
        """Tell all processes to shut down, and kill those that have not exited within the grace."""
        self._stopping.set()
        for process in self._running.values():
            _end_input(process)
        asyncio.get_running_loop().call_later(self._policy.grace, self.kill)

    def forward(self, number: int) -> None:
        """Send a signal to the processes. SIGUSR2, which turns debugging on and off, also reaches later ones."""
        if number == signal.SIGUSR2:
            self._is_debugging = not self._is_debugging
        for worker, process in self._running.items():
            if number != signal.SIGUSR2 or worker in self._ready:
                with suppress(ProcessLookupError):
                    process.send_signal(number)

    def kill(self) -> None:
        """Kill all processes; to be called after `stop`."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.kill()

    async def _keep_running(self, number: int) -> None:
        """Run the process with this number, and restart it when it exits."""
        loop = asyncio.get_running_loop()
        backoff = self._policy.backoff
        while not self._stopping.is_set():
            started = loop.time()
            status = await self._run_once(number)
            if self._stopping.is_set():
                return
            if not self._was_ever_ready and len(self._failed()) == self._count:
                self._give_up(status)
                return
            self._announce_once()
            if loop.time() - started >= self._policy.reset_after:
                backoff = self._policy.backoff
            _log.warning("worker exited", worker=number, status=status, restart_in=backoff)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), backoff)
            backoff = min(2 * backoff, self._policy.max_backoff)

    async def _run_once(self, number: int) -> str:
        """Run the process with this number until it exits, and return how it exited."""
        try:
            process = await asyncio.create_subprocess_exec(*self._command, str(number), stdin=PIPE, stdout=PIPE)
        except OSError as error:
            self._failed_starts[number] += 1
            self._record_exit(number)
            return str(error)
        self._running[number] = process
        if self._stopping.is_set():
            _end_input(process)
        watchdog = asyncio.create_task(self._kill_if_silent(number, process))
        await self._listen(number, process)
        status = await process.wait()
        watchdog.cancel()
        del self._running[number]
        if number not in self._ready:
            self._failed_starts[number] += 1
        elif status and self._stopping.is_set():
            self._clean = False
        self._record_exit(number)
        return _describe(status)

    def _record_exit(self, number: int) -> None:
        cause: Literal["exit", "hang", "start"] = "exit"
        if number not in self._ready:
            cause = "start"
        elif number in self._hung:
            cause = "hang"
        self._ready.discard(number)
        self._hung.discard(number)
        if self._observer:
            self._observer.on_ready(len(self._ready))
            if not self._stopping.is_set():
                self._observer.on_restart(number, cause)

    async def _listen(self, number: int, process: Process) -> None:
        """Read the announcement and the heartbeats of the process until it exits."""
        assert process.stdout
        announcement = b""
        while received := await process.stdout.read(4096):
            self._heard.add(number)
            if number not in self._ready:
                announcement += received
                if READY in announcement:
                    self._announcement = announcement.partition(READY)[0].decode()
                    self._on_ready(number, process)

    def _on_ready(self, number: int, process: Process) -> None:
        self._failed_starts[number] = 0
        self._ready.add(number)
        self._was_ever_ready = True
        if self._is_debugging:
            process.send_signal(signal.SIGUSR2)
        if self._observer:
            self._observer.on_ready(len(self._ready))
        _log.info("worker ready", worker=number, pid=process.pid)
        self._announce_once()

    def _announce_once(self) -> None:
        """Announce when all processes are ready, but for those that do not start."""
        if not self._announced and self._ready and len(self._ready | self._failed()) == self._count:
            self._announced = True
            self._announce(self._announcement)

    def _failed(self) -> set[int]:
        most = self._policy.max_failed_starts
        return {number for number, failed in self._failed_starts.items() if failed >= most}

    async def _kill_if_silent(self, number: int, process: Process) -> None:
        """Kill the process when it is not ready, or not heard of, for too long.

        The time is counted in seconds in which this process ran as well: when all were stopped together, as a virtual
        machine is, each gets its full time again.
        """
        silent = 0.0
        limit = self._policy.start_timeout
        while silent < limit:
            pause = min(INTERVAL, limit)
            await asyncio.sleep(pause)
            silent = 0.0 if number in self._heard else silent + pause
            self._heard.discard(number)
            if self._observer:
                self._observer.on_heartbeat_age(number, silent)
            if number in self._ready:
                limit = self._policy.heartbeat_timeout
        self._hung.add(number)
        _log.error("worker hangs", worker=number, pid=process.pid, silent_for=limit, was_ready=number in self._ready)
        with suppress(ProcessLookupError):
            process.kill()

    def _give_up(self, status: str) -> None:
        self._gave_up = (
            f"no worker starts: each exited {self._policy.max_failed_starts} times in a row before it was ready, the "
            f"last one with {status}: see its output above for the reason"
        )
        self.stop()


async def run_until_signalled(supervisor: Supervisor) -> int:
    """Run until SIGTERM or SIGINT, then stop the processes; a second signal kills them.

    Returns the exit status: 0, 1 if a process did not exit with status 0, 128 plus the number of a second signal.
    Raises WorkersFailed as `Supervisor.run` does.
    """
    received: list[int] = []

    def on_signal(number: int) -> None:
        received.append(number)
        if len(received) > 1:
            supervisor.kill()
            return
        _log.info("shutting down", signal=signal.Signals(number).name)
        supervisor.stop()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal, number)
    # `serve` blocks both signals before it execs the supervisor.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    clean = await supervisor.run()
    if len(received) > 1:
        return 128 + received[1]
    return 0 if clean else 1


def _end_input(process: Process) -> None:
    assert process.stdin
    process.stdin.close()


def _describe(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"
