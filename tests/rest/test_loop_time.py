"""No single request holds the event loop for more than 50 ms, whatever it holds."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime

from service.server.app import Service
from service.server.startup import prepare_schema
from tests.abuse.rest_attacks import HEAVY, USER, exchange, get
from tests.rpc.given import Rows
from tests.running import new_user, settings_for

LIMIT = 0.05  # s of CPU time of the loop's thread, which a busy machine does not change


@asynccontextmanager
async def serving(sqlite_url: str) -> AsyncIterator[tuple[str, int]]:
    """A service in this event loop."""
    settings = settings_for(sqlite_url, rest_address="127.0.0.1:0")
    await asyncio.to_thread(prepare_schema, settings)
    service = Service(settings)
    await service.start()
    assert service.rest_address
    yield "127.0.0.1", service.rest_address.port
    await service.drain(grace=1)
    await service.close()


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Its pauses grow with all that the tests hold."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def longest_turn(host: str, port: int, request: bytes) -> tuple[float, bytes]:
    """The most CPU time (s) of one turn of the loop while it serves a request; and the response."""
    exchanging = asyncio.create_task(asyncio.to_thread(exchange, host, port, request))
    longest = 0.0
    while not exchanging.done():
        started = time.thread_time()
        await asyncio.sleep(0)
        longest = max(longest, time.thread_time() - started)
    return longest, exchanging.result()


async def test_no_request_holds_the_event_loop_for_50_ms(sqlite_url: str) -> None:
    async with serving(sqlite_url) as (host, port):
        await longest_turn(host, port, HEAVY["query: escapes"])  # imports and caches
        turns: dict[str, float] = {}
        with no_garbage_collection():
            for name, request in HEAVY.items():
                turns[name], response = await longest_turn(host, port, request)
                assert b"HTTP/1.1 5" not in response, name
                assert response.startswith((b"HTTP/1.1 4", b"HTTP/1.1 2")), name
            rows, user = Rows(sqlite_url), new_user()
            await asyncio.to_thread(rows.insert_user, user)
            await asyncio.to_thread(rows.insert_tasks, user, [datetime.now(UTC)] * 1000, description='"\n' * 1200)
            page = get("/v1/tasks?pageSize=1000").replace(USER.encode(), user.encode())
            turns["the largest page"], response = await longest_turn(host, port, page)
            assert len(response) > 2_500_000
    too_long = {name: round(turn * 1000) for name, turn in turns.items() if turn > LIMIT}
    assert not too_long, f"{too_long} (ms)"
