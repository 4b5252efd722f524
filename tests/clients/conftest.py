"""Fixtures of the tests of clients: a service, both Python clients, and what `make build` makes."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.clients import Connect, connecting
from tests.clients.command_line import Person
from tests.clients.distributions import build_once
from tests.running import new_user, running_service, settings_for
from tests.tls.issuing import Authority


@pytest.fixture(scope="module")
def address(sqlite_url: str) -> Iterator[str]:
    with running_service(settings_for(sqlite_url)) as address:
        yield address


@pytest.fixture(params=["sync", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """`connect`, or a function like it for the asyncio client."""
    with connecting(request.param) as connect:
        yield connect


@pytest.fixture
def person(address: str) -> Person:
    return Person(target=address, user=new_user())


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make build` filled, once for all workers of this session."""
    own = tmp_path_factory.getbasetemp()
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "build"
    build_once(shared)
    return shared / "dist"
