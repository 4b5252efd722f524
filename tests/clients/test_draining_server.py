"""A client with several addresses leaves a server that shuts down, also with calls that it must not repeat."""

from pathlib import Path

import pytest
from taskwell_client import NotFound, Unavailable, connect

from service.db.schema import Schema
from service.db.url import SqliteFile
from tests.server.starting import refuses, serving
from tests.server.workers import held_call, workers
from tests.waiting import until

MISSING = "019f0000-0000-7000-8000-000000000000"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    folders = [tmp_path / name for name in ("draining", "serving")]
    for folder in folders:
        folder.mkdir()
        Schema(SqliteFile(folder / "taskwell.db")).up()
    return folders


def test_client_sends_no_call_to_a_server_that_drains(folders: list[Path]) -> None:
    with (
        serving(folders[1]) as other,
        workers(folders[0], "--shutdown-grace", "600", count=1) as draining,
        connect(f"ipv4:{draining.address},{other.address}", user="alice") as client,
        held_call(draining, folders[0]) as (held, release),
    ):

        def succeeds() -> bool:
            for _ in range(20):
                try:
                    with pytest.raises(NotFound):
                        client.delete(MISSING)
                except Unavailable:
                    return False
            return True

        draining.server.process.terminate()
        until(lambda: refuses(draining.address))
        until(succeeds)
        for _ in range(5):
            assert succeeds()
        assert not held.done()
        release()
