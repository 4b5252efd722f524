"""Writes on a PostgreSQL that waits for a synchronous standby."""

from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from grpc import StatusCode
from psycopg.conninfo import make_conninfo

from tests.faults.cluster import Node, nodes
from tests.running import Api, refused, running_service, settings_for
from tests.waiting import until

_WAITING = "FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.mark.usefixtures("postgres")  # whose programs the server uses
def test_a_write_is_not_acknowledged_that_was_cancelled_while_it_waited_for_the_standby() -> None:
    with nodes("a") as [node]:
        node.create()
        node.start()
        node.execute("CREATE ROLE served LOGIN SUPERUSER")
        settings = settings_for(make_conninfo(node.url, user="served"), migrate=True)
        with running_service(settings) as address, grpc.insecure_channel(address) as channel:
            api = Api(channel)
            task = api.create()
            _wait_for_standby(node, "away")
            with ThreadPoolExecutor() as threads:
                update = threads.submit(api.update, task.id, title="Not replicated")
                until(lambda: bool(node.execute(f"SELECT pg_cancel_backend(pid) {_WAITING}")))
                with refused(StatusCode.UNAVAILABLE, "DATABASE_UNAVAILABLE"):
                    update.result()
            assert api.get(task.id).title == "Not replicated"
            _wait_for_standby(node, "")
            api.update(task.id, title="Replicated")


def _wait_for_standby(node: Node, name: str) -> None:
    """Let commits wait for a standby of this name, or for none."""
    node.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    node.execute("SELECT pg_reload_conf()")
    until(lambda: node.execute("SHOW synchronous_standby_names") == [(name,)])
