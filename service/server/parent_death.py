"""Ends a worker when its supervisor has ended, whatever the worker is doing."""

import ctypes
import select
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""https://man7.org/linux/man-pages/man2/pr_set_pdeathsig.2const.html"""


def end_with_parent() -> bool:
    """Have the kernel kill this process when its parent ends; return False if it has ended already.

    A process whose event loop is blocked, whose interpreter waits for C code, or which was stopped by a signal could do
    nothing about it by itself, and would keep the address from the next server. Only on Linux, like several workers.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The supervisor never writes: there is something to read only at the end of the input.
    return not select.select((0,), (), (), 0)[0]
