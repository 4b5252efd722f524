"""Several processes of one command: started together, started again when they die, stopped together.

This module knows nothing of what they do, and imports little: it stays in memory beside them. What passes between it
and a process goes over the standard streams of that process:

- Output: what there is to announce, and then its end, as soon as the process is ready. It is announced once, when all
  of them are ready.
- Input: nothing but its end, which tells the process to finish its work and to exit. It ends as well when this process
  is killed, so that none is left behind. (A signal would not do: a terminal and a service manager may send theirs to
  every process at once, and a process that gets a second one takes it to mean "at once".)
"""

import asyncio
import signal
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

_log = structlog.get_logger("supervisor")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait for what (s), and how often to try."""

    pause: float = 0.1
    """Before a process that ended is started again; doubled every time."""
    longest_pause: float = 10.0
    steady_after: float = 60.0
    """The pause is the first, short one again for a process that lived as long as this."""
    failed_starts: int = 5
    """When as many processes in a row ended before they were ready, all are stopped."""
    grace: float = 30.0
    """How long processes may take to exit when they are told to; then they are killed."""


class GivenUp(Exception):
    """The processes do not come up; the message says how the last one ended."""


class Supervisor:
    """Keeps `count` processes of a command running until it is told to stop.

    A process gets its number, from 1, as its last argument. `announce` gets what one of them had to announce,
    `on_death` the number of each that ended before it was told to.
    """

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        *,
        announce: Callable[[str], None],
        on_death: Callable[[int], None] = lambda _: None,
        patience: Patience,
    ) -> None:
        self._command = command
        self._count = count
        self._announce = announce
        self._on_death = on_death
        self._patience = patience
        self._running: dict[int, Process] = {}
        self._ready: set[int] = set()
        self._announced = False
        self._failed_starts = 0
        self._stopping = asyncio.Event()
        self._gave_up = ""
        self._clean = True

    async def run(self) -> bool:
        """Return when all processes have ended after `stop`: whether each finished its work.

        Raises GivenUp where too many in a row ended before they were ready.
        """
        async with asyncio.TaskGroup() as group:
            for number in range(1, self._count + 1):
                group.create_task(self._keep(number))
        if self._gave_up:
            raise GivenUp(self._gave_up)
        return self._clean

    def stop(self) -> None:
        """Tell all processes to finish their work and to exit."""
        self._stopping.set()
        for process in self._running.values():
            _end_input(process)
        asyncio.get_running_loop().call_later(self._patience.grace, self.kill)

    def kill(self) -> None:
        """End all processes at once, after `stop`."""
        for process in self._running.values():
            with suppress(ProcessLookupError):
                process.kill()

    async def _keep(self, number: int) -> None:
        """Run the process of this number, again and again."""
        loop = asyncio.get_running_loop()
        pause = self._patience.pause
        while not self._stopping.is_set():
            began = loop.time()
            ended = await self._run_once(number)
            if self._stopping.is_set():
                return
            if self._failed_starts >= self._patience.failed_starts:
                self._give_up(ended)
                return
            if loop.time() - began >= self._patience.steady_after:
                pause = self._patience.pause
            self._on_death(number)
            _log.warning("a worker ended", worker=number, ended=ended, starting_again_in=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(2 * pause, self._patience.longest_pause)

    async def _run_once(self, number: int) -> str:
        """Start the process of this number, wait until it has ended, and answer how."""
        try:
            process = await asyncio.create_subprocess_exec(*self._command, str(number), stdin=PIPE, stdout=PIPE)
        except OSError as error:
            self._failed_starts += 1
            return str(error)
        self._running[number] = process
        if self._stopping.is_set():
            _end_input(process)
        was_ready = await self._wait_until_ready(number, process)
        status = await process.wait()
        del self._running[number]
        self._ready.discard(number)
        if not was_ready:
            self._failed_starts += 1
        elif status and self._stopping.is_set():
            self._clean = False
        return _words(status)

    async def _wait_until_ready(self, number: int, process: Process) -> bool:
        """Wait for what a process announces; False if it ends without a word."""
        assert process.stdout
        announcement = (await process.stdout.read()).decode()
        if not announcement:
            return False
        self._failed_starts = 0
        self._ready.add(number)
        _log.info("a worker is ready", worker=number, pid=process.pid)
        if len(self._ready) == self._count and not self._announced:
            self._announced = True
            self._announce(announcement)
        return True

    def _give_up(self, ended: str) -> None:
        self._gave_up = (
            f"{self._failed_starts} workers in a row ended before they were ready, the last one with {ended}: "
            "what it wrote above says why"
        )
        self.stop()


async def run_until_signalled(supervisor: Supervisor) -> int:
    """Run until SIGTERM or SIGINT, and while the processes finish; a second signal ends them at once.

    The exit status: 0, or 1 if a process did not finish its work, 128 and its number after a second signal. Raises
    GivenUp as `Supervisor.run` does.
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
    # Whoever started this program may have held them back until somebody listens to them.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
    clean = await supervisor.run()
    if len(received) > 1:
        return 128 + received[1]
    return 0 if clean else 1


def _end_input(process: Process) -> None:
    assert process.stdin
    process.stdin.close()


def _words(status: int) -> str:
    return f"exit status {status}" if status >= 0 else f"signal {-status} ({signal.strsignal(-status)})"
