"""The command `taskwell`: the tasks of a user, and, where the service is installed beside it, the service's commands.

Imports next to nothing: `taskwell serve` passes here too, and a supervisor of the service stays in memory.
"""

import os
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import NoReturn

_GROUP = "taskwell.commands"
"""The entry points by which the service adds its commands, each the same function that reads `sys.argv` itself."""


def main() -> int:
    """Run the command that `sys.argv` names; answers the exit status."""
    completing = "_TASKWELL_COMPLETE" in os.environ  # click's: a shell asks what could be typed
    if sys.argv[1:2] == ["task"] or completing:
        tasks(sys.argv[1:])
    commands = service_commands()
    if not commands:
        tasks(sys.argv[1:])
    run = next(iter(commands.values()))()
    return run()


def tasks(arguments: list[str]) -> NoReturn:
    """Run `task ...` and end the process."""
    for needed in ("click", "rich"):
        if find_spec(needed) is None:
            sys.exit(f"taskwell: {needed} is missing: pip install 'taskwell-client[cli]'")
    from taskwell_cli.commands import taskwell

    taskwell.main(arguments, "taskwell")


def service_commands() -> dict[str, Callable[[], Callable[[], int]]]:
    """What loads the service's commands, by their names; empty where only the client is installed."""
    from importlib.metadata import entry_points

    return {entry.name: entry.load for entry in entry_points(group=_GROUP)}
