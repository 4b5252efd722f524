"""Runs `taskwell` as a process."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import IO

import grpc

from tests.running import Api, refusal_of

COMMAND = (sys.executable, "-m", "service")
TIMEOUT = 120.0  # s


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, in a folder, with no other variables of ours than these."""
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


class Server:
    """A running `taskwell serve` and its address."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("gRPC listening on "), (line, process.communicate())
        self.address = line.split()[-1]
        self.hint = process.stdout.readline()

    @cached_property
    def metrics_address(self) -> str:
        """The address of the metrics, for a server that has one and no REST."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().removeprefix("metrics listening on ").strip()

    @contextmanager
    def api(self, user: str | None = None) -> Iterator[Api]:
        with grpc.insecure_channel(self.address) as channel:
            yield Api(channel, user)

    def rest(self) -> str:
        """Read the rest of its standard output, until its end."""
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT)


@contextmanager
def serving(
    folder: Path, arguments: Sequence[str] = (), *, log: IO[str] | int = subprocess.PIPE, **environment: str
) -> Iterator[Server]:
    """Run a server on a free port; kill it at the end if it still runs."""
    process = subprocess.Popen(
        [*COMMAND, "serve", "--grpc-address", "127.0.0.1:0", *arguments],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.communicate()


def accepts(address: str) -> bool:
    """True if a server accepts connections on the address."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except ConnectionError:
        return False
    return True


def refuses(address: str) -> bool:
    """True if the server refuses a new call because it is shutting down."""
    with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        try:
            Api(channel).list()
        except grpc.RpcError as error:
            refusal = refusal_of(error)
            return refusal.reason == "SHUTTING_DOWN" and refusal.retry_delay is not None
    return False


def is_free(address: str) -> bool:
    """True if the address is free to bind."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, int(port)))
        return True
    return False
