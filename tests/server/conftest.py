"""Fixtures for tests of processes: a migrated database file, so that servers start fast."""

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
    """A folder for a server to run in, with a migrated database file."""
    shutil.copy(migrated_file, tmp_path)
    return tmp_path
