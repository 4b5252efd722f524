"""Systems that are started in a way of their own for certain faults, and what a machine needs for that."""

import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.faults.fault import Fault
from tests.faults.system import System


@dataclass(frozen=True)
class OwnSystem:
    """A way to start a system, and the faults that can be done to it."""

    start: Callable[[str], AbstractContextManager[System]]
    faults: tuple[Fault, ...]
    missing: str | None = None
    """Why it cannot run on this machine."""


def missing_mounts() -> str | None:
    """Why no file system can be mounted here."""
    return None if sys.platform == "linux" and os.geteuid() == 0 else "only root on Linux may mount file systems"
