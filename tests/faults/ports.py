"""Ports for processes that are restarted on the port that they had."""

import random
import socket
from contextlib import suppress

_FIRST, _LAST = 15_000, 30_000
"""Below the ports that the system gives to connections: one of those would take the port of a process that is down."""


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    for _ in range(100):
        port = random.randint(_FIRST, _LAST)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")
