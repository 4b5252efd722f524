"""A user of the command line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from taskwell_cli.commands import taskwell

COMMAND = Path(sys.executable).with_name("taskwell")
MISSING = "019f0000-0000-7000-8000-000000000000"
"""The id of no task."""


class Person:
    """A user of the command line. Most commands run in this process, which is faster."""

    def __init__(self, **environment: str) -> None:
        self.environment = {f"TASKWELL_CLIENT_{name.upper()}": value for name, value in environment.items()}
        self.environment["XDG_CONFIG_HOME"] = "/nowhere"  # whoever runs the tests may have profiles

    def types(self, *arguments: str) -> Result:
        return CliRunner(env=self.environment).invoke(taskwell, ["task", *arguments], prog_name="taskwell")

    def starts(self, *command: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a process to its end."""
        return subprocess.run(
            command,
            env={"PATH": os.environ["PATH"], **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def sees(self, *arguments: str) -> str:
        """Run a command that must succeed. Returns its output."""
        done = self.types(*arguments)
        assert (done.exit_code, done.stderr) == (0, ""), done.stderr
        return done.stdout

    def gets(self, *arguments: str) -> list[Any]:
        """Run a command with --json. Returns its output."""
        return [json.loads(line) for line in self.sees(*arguments, "--json").splitlines()]

    def is_told(self, *arguments: str, status: int) -> str:
        """Run a command that must fail. Returns its one line on standard error."""
        done = self.types(*arguments)
        assert (done.exit_code, done.stdout) == (status, ""), done.stderr
        [line] = done.stderr.splitlines()
        assert line.startswith("taskwell: ")
        return line.removeprefix("taskwell: ")
