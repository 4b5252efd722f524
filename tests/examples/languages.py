"""Builds the examples in other languages and runs them against a service (`make languages`).

Each makes the six calls and reads ErrorInfo, BadRequest and RetryInfo. Tools that are not installed are named.
"""

import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from service.log import configure_log
from tests.programs import Failed, not_installed, run
from tests.running import new_user, running_addresses, settings_for

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PRINTED = (
    *("CreateTask: Buy milk", "GetTask: Buy milk", "ListTasks: 1", "UpdateTask: Buy oat milk", "CompleteTask: "),
    *("DeleteTask: done", "ErrorInfo: ", "BadRequest: task.title is required", "RetryInfo: "),
)
"""How each line begins that an example prints."""


_COLOURS = re.compile("\x1b\\[[0-9;]*m")  # Maven writes some whatever it is told


class Example(NamedTuple):
    """An example: its folder, the tools that it needs, how it is built, and how it is run."""

    folder: str
    tools: Sequence[str]
    build: Sequence[Sequence[str]]
    programs: Sequence[Sequence[str]]
    """Commands. The target and the user are added, separated by a space where the last argument ends in `=`."""


_NPM = ("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent")
LANGUAGES: Mapping[str, Example] = {
    "node": Example(
        "node",
        ["node", "npm"],
        [_NPM, ["npm", "run", "--silent", "generate"]],
        [["node", "grpc-js.js"], ["node", "connect-node.js"]],
    ),
    "java": Example(
        "java",
        ["mvn", "javac"],
        [["mvn", "-q", "-B", "compile"]],
        [["mvn", "-q", "-B", "exec:java", "-Dexec.args="]],
    ),
    "rust": Example(
        "rust",
        ["cargo"],
        [["cargo", "build", "--quiet"]],
        [["cargo", "run", "--quiet", "--"]],
    ),
}


def run_example(example: Example, target: str) -> None:
    """Build an example and run its programs, each with a user of its own. Raises Failed."""
    folder = EXAMPLES / example.folder
    for command in example.build:
        run(*command, folder=folder)
    for program in example.programs:
        arguments = [target, new_user()]
        joined = program[-1].endswith("=")
        command = [*program[:-1], program[-1] + " ".join(arguments)] if joined else [*program, *arguments]
        said = run(*command, folder=folder)
        lines = [line for line in _COLOURS.sub("", said).splitlines() if line]
        as_expected = [line.startswith(start) for line, start in zip(lines, PRINTED, strict=False)]
        if len(lines) != len(PRINTED) or not all(as_expected):
            raise Failed(f"{' '.join(command)}\n{said}")


def main() -> int:
    configure_log("error", "json")
    failed, missing = 0, set[str]()
    with tempfile.TemporaryDirectory() as folder:
        # The limit is there so that the examples see a RetryInfo.
        settings = settings_for(f"sqlite:///{folder}/taskwell.db", rate_limit=1, rate_burst=30)
        with running_addresses(settings) as addresses:
            for name in sys.argv[1:] or LANGUAGES:
                if absent := not_installed(LANGUAGES[name].tools):
                    missing |= absent
                    continue
                try:
                    run_example(LANGUAGES[name], addresses.grpc)
                    print(f"{name}: six calls, and the details of three errors", flush=True)
                except Failed as error:
                    failed += 1
                    print(f"{name} FAILED: {error}", flush=True)
    if missing:
        print(f"languages: {', '.join(sorted(missing))} not installed: the examples that need it were left out")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
