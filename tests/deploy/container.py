"""Runs an image as a container engine does, with the tools of util-linux alone.

Process 1 of a namespace of its own, a read-only root, /tmp as the only place to write to, and the user, environment and
command of the image. The network is that of the caller.
"""

import json
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import until

TIMEOUT = 120.0
"""Limit of every wait for a process (s)."""

# Docker's defaults for --read-only and --tmpfs /tmp. Of the devices, those that every container has.
_MOUNTS = """
set -e
mount --make-rprivate /
mount --bind {root} {root}
mount -t proc proc {root}/proc
mount -t tmpfs -o size=64k,mode=755 tmpfs {root}/dev
for device in null zero random urandom; do
  touch {root}/dev/$device
  mount --bind /dev/$device {root}/dev/$device
done
mount -o remount,ro {root}/dev
mount -t tmpfs -o size=64m,mode=1777,nosuid,nodev,noexec tmpfs {root}/tmp
mount -o remount,bind,ro {root}
exec setpriv --no-new-privs {command}
"""


class Image:
    """An image's root file system and its configuration."""

    def __init__(self, root: Path, inspected: str) -> None:
        self.root = root
        self.config: dict[str, Any] = json.loads(inspected)["Docker"]["config"]

    @property
    def health_check(self) -> list[str]:
        """The command of HEALTHCHECK."""
        command: list[str]
        kind, *command = self.config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return command

    def within(self, command: Sequence[str], settings: Mapping[str, str]) -> list[str]:
        """The command that runs another one on the image's root, as its user and with its environment."""
        environment = [*self.config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        change = ["chroot", f"--userspec={self.config['User']}", str(self.root), "env", "-i"]
        return [*change, f"--chdir={self.config['WorkingDir']}", *environment, *command]


class Container:
    """A running process of an image."""

    def __init__(self, image: Image, arguments: Sequence[str] = (), **settings: str) -> None:
        self._image, self._settings = image, settings
        command = [*image.config["Entrypoint"], *(arguments or image.config["Cmd"])]
        script = _MOUNTS.format(root=shlex.quote(str(image.root)), command=shlex.join(image.within(command, settings)))
        self.process = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "sh", "-c", script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @property
    def pid(self) -> int:
        """Process 1 of the container, by the number that it has outside."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        until(lambda: bool(children.read_text().split()))
        return int(children.read_text().split()[0])

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run another command in the container, as `docker exec` does."""
        inside = [
            "nsenter",
            f"--target={self.pid}",
            "--mount",
            "--pid",
            "--",
            *self._image.within(command, self._settings),
        ]
        return subprocess.run(inside, capture_output=True, text=True, timeout=TIMEOUT, check=False)

    def status(self, name: str) -> str:
        """A line of /proc/PID/status of process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines)[name]

    @property
    def memory(self) -> int:
        """Memory of all processes of the container, shared pages counted once (MB)."""
        family = [self.pid, *map(int, Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split())]
        sizes = (
            re.findall(r"^Pss: +(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
            for pid in family
        )
        return sum(int(size) for [size] in sizes) // 1000

    def stop(self) -> None:
        """Send SIGTERM to process 1."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self) -> tuple[int, str]:
        """Wait for the end. Returns exit status and standard error."""
        _, log = self.process.communicate(timeout=TIMEOUT)
        return self.process.returncode, log

    def kill(self) -> None:
        """End all processes, if they run."""
        if self.process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # ends its namespace
            self.process.communicate(timeout=TIMEOUT)
