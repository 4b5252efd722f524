"""A rolling upgrade under load: migrate, restart the old version, deploy the new one, roll back. No call may fail."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from taskwell_client import Client, TaskwellError, connect

from service.db.schema import Schema, known_revisions
from service.db.url import parse_database_url
from tests.running import new_user
from tests.server.starting import TIMEOUT, Server, run, serving
from tests.waiting import until

ROOT = Path(__file__).parents[2]
NEWER = f'''"""Add a note to each task. Locks `tasks` for a moment."""

import sqlalchemy as sa
from alembic import op

revision = "29990101"
down_revision = "{known_revisions()[-1]}"
branch_labels = None
depends_on = None
compatible_from = "{known_revisions()[-1]}"


def upgrade() -> None:
    op.add_column("tasks", sa.Column("note", sa.Text))


def downgrade() -> None:
    op.drop_column("tasks", "note")
'''


@pytest.fixture
def newer_version(tmp_path: Path) -> Path:
    """A copy of the service with one migration more; with its folder as PYTHONPATH it is the service that runs."""
    folder = tmp_path / "newer"
    for package in ("service", "migrations"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "migrations/versions/29990101_add_note.py").write_text(NEWER)
    return folder


class Load:
    """Calls of the six methods through both servers, in a loop, until the end of the block."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._ended = threading.Event()
        self.rounds = 0
        self.failures: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def wait_for_rounds(self, count: int = 10) -> None:
        wanted = self.rounds + count
        until(lambda: self.rounds >= wanted)

    def _run(self) -> None:
        with connect(f"ipv4:{','.join(self._addresses)}", user=new_user(), timeout=TIMEOUT) as client:
            while not self._ended.is_set():
                try:
                    one_round(client)
                except TaskwellError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                self.rounds += 1


def one_round(client: Client) -> None:
    """Make calls that are safe to repeat, which the client does."""
    task = client.create("Buy milk")
    assert client.get(task.id).title == "Buy milk"
    client.update(task.id, title="Buy oat milk")
    client.complete(task.id)
    assert task.id in {each.id for each in client.list()}
    client.delete(task.id, allow_missing=True)


def has_served(server: Server) -> bool:
    """True if the server has completed a call of TaskService, by its metrics."""
    with urlopen(f"http://{server.metrics_address}/metrics", timeout=TIMEOUT) as response:
        lines: list[str] = response.read().decode().splitlines()
    counts = [line for line in lines if "handled_total{" in line and "TaskService" in line and '"OK"' in line]
    return any(not line.endswith(" 0.0") for line in counts)


@pytest.mark.parametrize("database_kind", ["postgresql"], indirect=True)
def test_a_rolling_upgrade_and_a_rollback_fail_no_call(
    empty_database_url: str, tmp_path: Path, newer_version: Path
) -> None:
    schema = Schema(parse_database_url(empty_database_url))
    schema.up()
    environment = {"TASKWELL_DATABASE_URL": empty_database_url, "TASKWELL_METRICS_ADDRESS": "127.0.0.1:0"}
    newer = {**environment, "PYTHONPATH": str(newer_version)}
    with ExitStack() as servers:

        def start(address: str, variables: dict[str, str]) -> Server:
            return servers.enter_context(serving(tmp_path, ("--grpc-address", address), log=log, **variables))

        def replace(index: int, variables: dict[str, str]) -> None:
            assert running[index].end() == 0
            running[index] = start(running[index].address, variables)
            # As an orchestrator does, leave the client time to reconnect before the next server stops.
            until(lambda: has_served(running[index]))
            load.wait_for_rounds()

        log = servers.enter_context((tmp_path / "log").open("w"))
        running = [start("127.0.0.1:0", environment) for _ in range(2)]
        load = Load([server.address for server in running])
        with load.running():
            load.wait_for_rounds()
            assert run("migrate", "up", folder=tmp_path, **newer).returncode == 0
            assert schema.current() == "29990101"
            load.wait_for_rounds()
            replace(0, environment)  # restarted on the new schema
            replace(1, newer)
            replace(0, newer)
            replace(1, environment)  # rolled back
    assert not load.failures
