"""Two replicas behind Envoy, one of which is killed or stopped again and again under load: no safe call may fail.

    make replicas      (40 of them, about five minutes)

Envoy runs with deploy/envoy/envoy.yaml, whose addresses are replaced. The replicas are ended in turn, by kill -9 and by
SIGTERM, and started again. Safe calls are the reads of a client without retries, over gRPC and over REST, and every
call that our Python client may repeat.
"""

import asyncio
import http.client
import re
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import uvloop
import yaml

from service.log import configure_log
from tests.envoy import asked, listener, running_envoy, socket_address
from tests.faults.ports import free_port
from tests.faults.system import ServerProcess
from tests.postgres import fresh_database, running_postgres
from tests.running import Api
from tests.soak.restarts import AT_ONCE, BETWEEN, Call, Load, put_load
from tests.waiting import eventually, until

CONFIG = Path(__file__).resolve().parents[2] / "deploy" / "envoy" / "envoy.yaml"
ENVOY_THREADS = 2
SHUTDOWN_DELAY = "5"
"""As in the image."""
CALLS = 100
"""Of one connection, to see how Envoy spreads them."""


class Replica:
    """A server with gRPC, REST and metrics on addresses that it keeps."""

    def __init__(self, folder: Path, url: str) -> None:
        self.rest, self.metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
        settings = {
            "REST_ADDRESS": self.rest,
            "METRICS_ADDRESS": self.metrics,
            "SHUTDOWN_DELAY": SHUTDOWN_DELAY,
            "TRUST_NETWORK": "true",  # REST takes requests for other host names
        }
        folder.mkdir()
        self.server = ServerProcess(folder, url, settings=settings)

    @property
    def handled(self) -> int:
        """The number of calls that it has answered since its start, besides health checks."""
        with urllib.request.urlopen(f"http://{self.metrics}/metrics", timeout=30) as response:
            text = response.read().decode()
        lines = re.findall(r'^grpc_server_handled_total{.*?"taskwell\.v1\.TaskService".*?} (\S+)$', text, re.MULTILINE)
        return sum(int(float(line)) for line in lines)

    def has_answered(self) -> bool:
        return self.handled > 0


def config_for(replicas: Sequence[Replica]) -> dict[str, Any]:
    """Envoy's configuration with these replicas in place of the name `taskwell`, listening on a free port."""
    config: dict[str, Any] = yaml.safe_load(CONFIG.read_text())
    [only] = config["static_resources"]["listeners"]
    only["address"] = socket_address("127.0.0.1", 0)
    for cluster in config["static_resources"]["clusters"]:
        addresses = [each.server.address if cluster["name"] == "grpc" else each.rest for each in replicas]
        ends = [{"endpoint": {"address": socket_address(*_split(address))}} for address in addresses]
        cluster["load_assignment"]["endpoints"] = [{"lb_endpoints": ends}]
    return config


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@contextmanager
def running_replicas() -> Iterator[tuple[list[Replica], str]]:
    """Two replicas on PostgreSQL, and the administration of Envoy in front of them."""
    with ExitStack() as running:
        url = running.enter_context(fresh_database(running.enter_context(running_postgres())))
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-replicas-")))
        replicas = [Replica(folder / name, url) for name in ("first", "second")]
        for replica in replicas:
            running.callback(replica.server.kill)
            replica.server.start()
        yield replicas, running.enter_context(running_envoy(config_for(replicas), threads=ENVOY_THREADS))


def spread(replicas: Sequence[Replica], address: str) -> list[int]:
    """The calls of one connection that each replica gets."""
    before = [replica.handled for replica in replicas]
    with grpc.insecure_channel(address) as channel:
        api = Api(channel)
        for _ in range(CALLS):
            api.list()
    return [replica.handled - earlier for replica, earlier in zip(replicas, before, strict=True)]


async def put_rest_load(stack: AsyncExitStack, address: str) -> Load:
    """Start the load of HTTP clients that repeat nothing. It ends with the stack."""
    load = Load("REST, no retries")

    async def reads(call: Call) -> None:
        connection = http.client.HTTPConnection(address, timeout=30)
        user = {"x-user-id": f"user-{uuid4()}"}
        while not load.over:
            await call(connection, user)
        connection.close()

    def read(connection: http.client.HTTPConnection, user: dict[str, str]) -> None:
        connection.request("GET", "/v1/tasks", headers=user)
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            load.failures[str(response.status)] += 1

    async def in_thread(*arguments: Any) -> None:
        await asyncio.to_thread(read, *arguments)

    tasks = [asyncio.create_task(load.run(reads, in_thread)) for _ in range(AT_ONCE // 2)]

    async def end() -> None:
        load.over = True
        await asyncio.gather(*tasks)

    stack.push_async_callback(end)
    return load


async def end_replicas(replicas: Sequence[Replica], address: str, ends: int) -> list[Load]:
    """End the replicas in turn under load, and start them again."""
    async with AsyncExitStack() as stack:
        loads = [*await put_load(stack, [address]), await put_rest_load(stack, address)]
        await _successes(loads)
        for number in range(ends):
            replica = replicas[number // 2 % 2]
            server = replica.server
            if number % 2:
                server.send(signal.SIGTERM)
                assert await asyncio.to_thread(server.wait) == 0
            await asyncio.to_thread(server.kill)
            await _successes(loads)
            await asyncio.to_thread(server.start)
            # The other one is ended when Envoy has taken this one back.
            await asyncio.to_thread(until, replica.has_answered)
        await _successes(loads)
    return loads


async def _successes(loads: Sequence[Load]) -> None:
    """Wait until some more calls of every client have succeeded."""
    wanted = {load.name: load.succeeded + BETWEEN for load in loads}
    await eventually(lambda: all(load.succeeded >= wanted[load.name] for load in loads))


def main() -> int:
    configure_log("error", "auto")
    ends = int(sys.argv[1]) if len(sys.argv) > 1 else 40
    with running_replicas() as (replicas, administration):
        address = str(listener(administration))
        calls = spread(replicas, address)
        loads = uvloop.run(end_replicas(replicas, address, ends))
        retries = re.findall(r"cluster\.(\w+)\.upstream_rq_retry: (\d+)", asked(administration, "/stats"))
    print(f"{CALLS} calls of one connection: {' and '.join(map(str, calls))}")
    print(f"{ends - ends // 2} kill -9 and {ends // 2} SIGTERM\n{'client':<26} {'succeeded':>9} {'failed':>7}")
    print(*loads, sep="\n")
    print(f"retries by Envoy: {', '.join(f'{count} of {name}' for name, count in retries)}")
    problems = [
        f"{load.name}: {load.failures.total()} safe calls failed {load.messages}" for load in loads if load.failures
    ]
    if abs(calls[0] - calls[1]) > CALLS // 10:
        problems.append("Envoy does not balance calls")
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
