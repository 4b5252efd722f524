"""The load generators: h2load for repeated requests, our own for requests that differ. Both run outside of Python."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from bench.machine import BUILD, ROOT

_MARGIN = 60  # s; added to the run time of a generator before it counts as stuck
_MOST_CONNECTIONS = 16


class Unavailable(Exception):
    """A part of the benchmark cannot run on this machine; the message says what is missing."""


class LoadFailed(Exception):
    """Calls of the load failed or had no effect: its figures are invalid."""


@dataclass(slots=True)
class Load:
    """The measurements of a generator; times in seconds, latencies in microseconds."""

    requests: int
    """Calls that were answered, with any status."""
    rate: float
    """Responses per second during the load, without failures that the generator can see."""
    bytes: int
    """Size of the response messages with their prefixes; over HTTP/1.1, of the bodies."""
    failed: int = 0
    """Calls without a response, or with a HTTP status other than 200 or a gRPC status other than 0."""
    statuses: dict[str, int] = field(default_factory=dict)
    cause: str = ""
    """The first failure, if the generator knows it."""
    p50: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Pressure:
    """The number of calls in flight, and of connections."""

    connections: int
    streams: int

    @property
    def in_flight(self) -> int:
        return self.connections * self.streams


def pressure(in_flight: int) -> Pressure:
    """So many calls in flight, on as many connections but at most 16, as a few busy clients would open."""
    connections = min(in_flight, _MOST_CONNECTIONS)
    return Pressure(connections, in_flight // connections)


def h2load(url: str, pressure: Pressure, seconds: float, *options: str, body: Path | None = None) -> Load:
    """A closed loop that repeats one request with h2load: a POST of `body`, or a GET without it."""
    program = shutil.which("h2load")
    if program is None:
        raise Unavailable("h2load is missing: install Debian's package nghttp2-client")
    command = [program, f"-D{round(seconds * 1000)}ms", "-t1", f"-c{pressure.connections}", f"-m{pressure.streams}"]
    said = _run([*command, *options, *(["-d", str(body)] if body else []), url], seconds)
    return _read_h2load(said)


def h2load_grpc(address: str, path: str, user: str, body: Path, pressure: Pressure, seconds: float) -> Load:
    """The same for gRPC. h2load does not see gRPC statuses: check the bytes, and the effects of the calls."""
    headers = ("content-type: application/grpc", "te: trailers", f"x-user-id: {user}")
    options = [option for header in headers for option in ("-H", header)]
    return h2load(f"http://{address}{path}", pressure, seconds, *options, body=body)


def _read_h2load(said: str) -> Load:
    def number(pattern: str) -> float:
        found = re.search(pattern, said)
        if found is None:
            raise LoadFailed(f"h2load said something unknown:\n{said}")
        return float(found[1])

    # h2load may count the status of a response that it does not count at the end of the time.
    done, well = int(number(r" (\d+) done")), int(number(r"status codes: (\d+) 2xx"))
    well = min(done, well)
    broken = int(number(r" (\d+) errored")) + int(number(r" (\d+) timeout"))
    return Load(
        requests=done,
        rate=number(r"finished in .*, ([\d.]+) req/s") * well / max(1, done),
        bytes=int(number(r"\((\d+)\) data")),
        failed=done - well + broken,
    )


def generate(
    address: str,
    path: str,
    user: str,
    bodies: Path,
    pressure: Pressure,
    seconds: float,
    *,
    requests: int = 0,
    rate: float = 0,
    users: Path | None = None,
) -> Load:
    """Send the requests of a file in turn, in a loop or `requests` of them; `rate` (1/s) makes it an open loop."""
    what = [f"-address={address}", f"-path={path}", f"-user={user}", f"-bodies={bodies}", f"-users={users or ''}"]
    how = [f"-connections={pressure.connections}", f"-streams={pressure.streams}", f"-rate={rate}"]
    until = [f"-seconds={seconds}", f"-requests={requests}"]
    seen = json.loads(_run([str(generator()), *what, *how, *until], seconds))
    statuses: dict[str, int] = seen["statuses"]
    well = statuses.get("0", 0)
    return Load(
        requests=seen["requests"],
        rate=seen["in_time"] / seen["seconds"] * well / max(1, seen["requests"]),
        bytes=seen["bytes"],
        failed=seen["requests"] - well + seen["broken"],
        statuses=statuses | ({"broken": seen["broken"]} if seen["broken"] else {}),
        cause=seen["cause"],
        p50=seen["p50"],
        p99=seen["p99"],
    )


def generator() -> Path:
    """Build our generator. Raises Unavailable without Go."""
    return go_program("generator")


@cache
def go_program(folder: str) -> Path:
    """Build a Go program from its folder below bench/. Raises Unavailable without Go."""
    go = shutil.which("go")
    if go is None:
        raise Unavailable("Go is missing")
    program = BUILD / Path(folder).name
    # Ignore a Go workspace around this checkout, and the state of the repository.
    environment = {**os.environ, "GOWORK": "off"}
    command = [go, "build", "-buildvcs=false", "-o", str(program), "."]
    built = subprocess.run(
        command, cwd=ROOT / "bench" / folder, env=environment, capture_output=True, text=True, check=False
    )
    if built.returncode:
        raise Unavailable(f"bench/{folder} does not build: {built.stderr.strip()}")
    return program


def _run(command: Sequence[str], seconds: float) -> str:
    # One processor for Go: with a second one more threads would compete with the server for its cores.
    environment = {**os.environ, "GOMAXPROCS": "1"}
    try:
        ran = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False, timeout=seconds + _MARGIN
        )
    except subprocess.TimeoutExpired as expired:
        raise LoadFailed(f"{Path(command[0]).name} did not end") from expired
    if ran.returncode:
        raise LoadFailed(f"{Path(command[0]).name} failed: {(ran.stderr or ran.stdout).strip()}")
    return ran.stdout
