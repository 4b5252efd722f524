"""Stops a server while a call waits in the database and a client goes on sending it calls: all must succeed."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import grpc
import psycopg
from taskwell.v1 import tasks_pb2
from taskwell_client import Client, NotFound, Unavailable, connect

from tests.faults.system import ServerProcess
from tests.running import Api
from tests.waiting import until

REPEATED = 8
"""Calls sent while the server drains. About half of them reach it first."""
_MISSING = "019f0000-0000-7000-8000-000000000000"
_OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)
_STAYS = ("grpc.inhibit_health_checking", 1)
"""The client goes on calling a server that is NOT_SERVING: otherwise it would leave before it is refused a call."""
_SHUTTING_DOWN, _NOT_FOUND = "SHUTTING_DOWN", "NOT_FOUND"


def stop_while_a_call_waits(server: ServerProcess, addresses: Sequence[str], database_url: str) -> None:
    """Send SIGTERM to one of the servers while a call waits for a row lock in PostgreSQL.

    That call must succeed, and so must all safe calls of a client that still sends half of them to this server.
    """
    with (
        waiting_call(server.address, database_url) as (waiting, release),
        connect(f"ipv4:{','.join(addresses)}", user=f"user-{uuid4()}", options=[_STAYS, _OWN_CONNECTION]) as client,
    ):
        server.send(signal.SIGTERM)
        outcomes: list[str] = []

        def refuses() -> bool:
            # One call was refused and the next was not: the client is connected to this server and to another.
            outcomes.append(_outcome_of_a_delete(client))
            return outcomes[-2:] == [_SHUTTING_DOWN, _NOT_FOUND]

        until(lambda: waiting.done() or refuses())
        for _ in range(REPEATED):
            client.page(page_size=1)
        release()
        assert waiting.result().status == tasks_pb2.TASK_STATUS_COMPLETE


@contextmanager
def waiting_call(address: str, database_url: str) -> Iterator[tuple[Any, Callable[[], object]]]:
    """Start a call that waits for a row lock in PostgreSQL; yield it and the function that releases the lock."""
    with grpc.insecure_channel(address, [_OWN_CONNECTION]) as channel, psycopg.connect(database_url) as other:
        api = Api(channel)
        task = api.create()
        other.execute("SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", [task.id])
        waiting = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
        api.list()  # answered after `waiting` has arrived: they share a connection
        yield waiting, other.rollback


def _outcome_of_a_delete(client: Client) -> str:
    """The reason of the failure of a call that the client never repeats."""
    try:
        client.delete(_MISSING)
    except NotFound:
        return _NOT_FOUND
    except Unavailable as error:
        return error.reason or error.message
    return "deleted"
