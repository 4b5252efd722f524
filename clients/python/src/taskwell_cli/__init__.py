"""The command `taskwell`: `taskwell task` of the client, and the service's commands if the service is installed.

Imports next to nothing, because `taskwell serve` starts here too and its supervisor stays in memory.
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NoReturn

_GROUP = "taskwell.commands"
"""The entry points of the service's commands: all are one function, which reads `sys.argv` itself."""


def main() -> int:
    """Run the command that `sys.argv` names. Returns the exit status."""
    completing = "_TASKWELL_COMPLETE" in os.environ  # click's: a shell asks for completions
    if sys.argv[1:2] in (["task"], ["--version"]) or completing:
        tasks(sys.argv[1:])
    commands = service_commands()
    if not commands:
        tasks(sys.argv[1:])
    run = next(iter(commands.values()))()
    return run()


def tasks(arguments: list[str]) -> NoReturn:
    """Run `task ...` and end the process."""
    if find_spec("click") is None:
        sys.exit("taskwell: click is missing: pip install './clients/python[cli]'")
    from taskwell_cli.commands import taskwell

    taskwell.main(arguments, "taskwell")
    raise AssertionError("click ends the process")


def service_commands() -> dict[str, Callable[[], Callable[[], int]]]:
    """The loaders of the service's commands by name; empty if the service is not installed."""
    from importlib.metadata import entry_points

    return {entry.name: entry.load for entry in entry_points(group=_GROUP)}


def versions() -> str:
    """The versions of the client and of the service, if it is installed."""
    from importlib.metadata import PackageNotFoundError, version

    found = f"taskwell-client {version('taskwell-client')}"
    try:
        return f"taskwell {version('taskwell')}\n{found}"
    except PackageNotFoundError:
        return found
