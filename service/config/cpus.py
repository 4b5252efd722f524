"""The number of CPUs that this process may use."""

import math
import os
from pathlib import Path

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def usable_cpus() -> int:
    """Return the CPUs in the affinity mask, or fewer if the container has a CPU limit (cgroup v2)."""
    cpus = len(os.sched_getaffinity(0))
    try:
        quota, period = _CGROUP_CPU.read_text().split()
        return min(cpus, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError):  # no cgroup, or no limit: "max 100000"
        return cpus
