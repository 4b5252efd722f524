"""What the tests of processes share: a database that is up to date, so that a server has nothing to do to it."""

import shutil
from pathlib import Path

import pytest

from service.db.schema import Schema
from service.db.url import SqliteFile


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "taskwell.db"
    Schema(SqliteFile(file)).up()
    return file


@pytest.fixture
def folder(tmp_path: Path, migrated_file: Path) -> Path:
    """An empty folder but for the database of a server that runs in it."""
    shutil.copy(migrated_file, tmp_path)
    return tmp_path
