"""How many processes are of use on this machine."""

import math
import os
from pathlib import Path

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """The cores that this process may use: those it may run on, or fewer if its container is given less (cgroup v2)."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_CPU.read_text().split()
        return min(cores, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup, or no limit: "max 100000"
        return cores
