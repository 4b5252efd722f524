"""Debugging without a restart: SIGUSR1 logs the stacks of all threads and tasks, SIGUSR2 turns debug on and off.

A thread waits for these signals, so that they work while the event loop hangs.
"""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import PurePath
from types import FrameType

import structlog

from service.log import set_level

_log = structlog.get_logger("debug")

STACKS, DEBUG = signal.SIGUSR1, signal.SIGUSR2
"""The command line blocks both as it begins: by default they end the process."""

# Most lines for one signal: equal tasks share a line.
_MAX_LINES = 200


def handle_signals(level: str, loop: asyncio.AbstractEventLoop, forward: Callable[[int], object] | None = None) -> None:
    """Handle the signals from now on; the event loop calls `forward` for each. `level` is the level of the log."""
    changed = [level, "debug"]

    def handle(number: int) -> None:
        if forward:
            loop.call_soon_threadsafe(forward, number)
        if number == DEBUG:
            changed.reverse()
            set_level(changed[0])
            _report("log level changed", to=changed[0])
        else:
            log_stacks(loop)

    def wait() -> None:
        # Other signals belong to the main thread.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            number = signal.sigwait((STACKS, DEBUG))
            try:
                handle(number)
            except Exception:  # noqa: BLE001 - the process goes on, and so does this thread
                _log.exception("signal not handled", signal=signal.Signals(number).name)

    threading.Thread(target=wait, name="debug signals", daemon=True).start()


def log_stacks(loop: asyncio.AbstractEventLoop) -> None:
    """Log a line for each thread, and one for each group of tasks that wait in the same place."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented
        _report("thread", name=names.get(ident), stack=_stack_of_thread(frame))
    groups: dict[tuple[str, ...], list[str]] = {}
    for task in asyncio.all_tasks(loop):
        stack = tuple(_stack_of_task(task)) or (repr(task.get_coro()),)
        groups.setdefault(stack, []).append(task.get_name())
    largest = sorted(groups.items(), key=lambda group: -len(group[1]))
    for stack, tasks in largest[:_MAX_LINES]:
        _report("tasks", count=len(tasks), names=tasks[:3], stack=list(stack))
    if more := largest[_MAX_LINES:]:
        _report("more tasks", count=sum(len(tasks) for _, tasks in more))


def _report(event: str, **fields: object) -> None:
    """Log what was asked for at a level that is written."""
    (_log.warning if _log.is_enabled_for(logging.WARNING) else _log.error)(event, **fields)


def _stack_of_thread(innermost: FrameType | None) -> list[str]:
    places: list[str] = []
    while innermost:
        places.append(_place(innermost))
        innermost = innermost.f_back
    return places[::-1]


def _stack_of_task(task: "asyncio.Task[object]") -> Iterable[str]:
    """The frames in which a task waits, outermost first. (`Task.get_stack` has only the outermost coroutine.)"""
    waiting: object = task.get_coro()
    while waiting is not None:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(waiting, f"{kind}_frame")), None)
        if kind is None:
            return
        if frame := getattr(waiting, f"{kind}_frame"):
            yield _place(frame)
        waiting = getattr(waiting, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")


def _place(frame: FrameType) -> str:
    code = frame.f_code
    file = "/".join(PurePath(code.co_filename).parts[-3:])
    return f"{file}:{frame.f_lineno} {code.co_qualname}"
