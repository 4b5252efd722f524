"""Fixtures: a database and a store of either kind."""

from collections.abc import AsyncIterator

import pytest_asyncio

from service.db.engine import Database
from service.db.store import SqlTaskStore
from service.db.url import parse_database_url
from tests.distribution import store_of


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(parse_database_url(database_url))
    yield database
    await database.close()


@pytest_asyncio.fixture
async def store(database: Database) -> SqlTaskStore:
    return store_of(database)
