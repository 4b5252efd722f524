"""Shutdown: NOT_SERVING while calls are accepted, then refused, then the end; never CANCELLED."""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2, tasks_pb2_grpc

from service.db.schema import Schema
from service.db.url import parse_database_url
from tests.auth.issuing import dripping
from tests.postgres import fresh_database
from tests.proxy import proxied
from tests.running import new_user, refused
from tests.server.starting import TIMEOUT, refuses, serving
from tests.server.workers import held_call, workers
from tests.waiting import until

NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


def health(channel: grpc.Channel) -> Any:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    return stub.Check(health_pb2.HealthCheckRequest()).status


@pytest.mark.parametrize("count", [1, 2])
def test_calls_are_accepted_during_the_shutdown_delay_while_health_is_not_serving(folder: Path, count: int) -> None:
    with workers(folder, "--shutdown-delay", "600", "--rest-address", "127.0.0.1:0", count=count) as running:
        running.server.process.terminate()
        until(lambda: len(running.lines("shutting down")) == (count if count == 1 else count + 1))
        for _ in range(8):
            with running.api() as api:
                assert health(api.channel) == NOT_SERVING
                assert api.get(api.create().id)
        assert running.server.end() == 128 + signal.SIGTERM


def test_calls_are_refused_after_the_shutdown_delay_while_the_others_end(folder: Path) -> None:
    with workers(folder, "--shutdown-delay", "0.01", count=1) as running, held_call(running, folder) as (held, release):
        running.server.process.terminate()
        until(lambda: refuses(running.address))
        with running.api() as api:
            assert health(api.channel) == NOT_SERVING
            with refused(StatusCode.UNAVAILABLE, "SHUTTING_DOWN") as refusal:
                api.create()
            assert refusal.retry_delay
        assert not held.done()
        release()
        assert held.result().status == tasks_pb2.TASK_STATUS_COMPLETE
        assert running.server.process.wait(TIMEOUT) == 0


@pytest.mark.parametrize("count", ["1", "2"])
async def test_callers_of_a_restarted_server_see_unavailable_and_never_cancelled(folder: Path, count: str) -> None:
    seen: set[StatusCode] = set()
    succeeded = asyncio.Semaphore(0)
    stopping = asyncio.Event()

    async def call(stub: Any) -> None:
        while not stopping.is_set():
            try:
                await stub.ListTasks(tasks_pb2.ListTasksRequest(), metadata=[("x-user-id", new_user())], timeout=60)
                succeeded.release()
            except grpc.aio.AioRpcError as error:
                seen.add(error.code())
                await asyncio.sleep(0.01)  # one that cannot connect fails at once

    async def call_at_once(address: str) -> None:
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        async with grpc.aio.insecure_channel(address, options) as channel:
            stub: Any = tasks_pb2_grpc.TaskServiceStub(channel)
            await asyncio.gather(*(call(stub) for _ in range(8)))

    calling: list[asyncio.Task[None]] = []
    address = "127.0.0.1:0"
    for _ in range(3):
        with serving(folder, ["--workers", count, "--grpc-address", address]) as server:
            address = server.address
            calling = calling or [asyncio.create_task(call_at_once(address)) for _ in range(6)]
            for _ in range(500):
                await succeeded.acquire()
            assert await asyncio.to_thread(server.end) == 0
    stopping.set()
    await asyncio.gather(*calling)
    assert seen == {StatusCode.UNAVAILABLE}


@contextmanager
def silent_database(postgres: str) -> Iterator[tuple[str, Any]]:
    """The URL of a database behind a proxy, migrated, and the proxy."""
    with fresh_database(postgres) as url, proxied(url) as proxy:
        Schema(parse_database_url(url)).up()
        try:
            yield proxy.conninfo, proxy
        finally:
            proxy.flow()


@pytest.mark.parametrize("count", [1, 2])
def test_a_database_that_is_silent_does_not_hold_up_the_exit(tmp_path: Path, postgres: str, count: int) -> None:
    with silent_database(postgres) as (url, proxy):
        arguments = ["--database-url", url, "--shutdown-grace", "0.5"]
        with workers(tmp_path, *arguments, count=count) as running, running.api() as api:
            task = api.create()
            proxy.hold()
            held = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
            health(api.channel)  # answered after `held` has arrived: they share a connection
            assert running.server.end() == 0
            assert held.code() == StatusCode.UNAVAILABLE
            assert len(running.lines("stopped")) == count
            assert [line["calls"] for line in running.lines("calls are cut off")] == [1]


@pytest.mark.parametrize("count", [1, 2])
def test_sighup_ends_neither_a_server_nor_a_call(folder: Path, count: int) -> None:
    with workers(folder, count=count) as running, held_call(running, folder) as (held, release):
        for pid in {running.server.process.pid, *running.pids.values()}:
            os.kill(pid, signal.SIGHUP)
        with running.api() as api:
            api.list()
        release()
        assert held.result().status == tasks_pb2.TASK_STATUS_COMPLETE
        assert running.server.end() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_an_issuer_that_sends_its_keys_byte_by_byte_does_not_hold_up_the_exit(folder: Path, count: int) -> None:
    with dripping() as url:
        jwt = ["--auth", "jwt", "--jwt-issuer", "i", "--jwt-audience", "a", "--jwt-jwks", url]
        with workers(folder, *jwt, count=count) as running:
            assert running.server.end() == 0
