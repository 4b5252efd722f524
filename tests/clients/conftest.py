"""What the tests of the Python client share: a service, and both clients."""

from collections.abc import Iterator

import pytest

from tests.clients.clients import Connect, connecting
from tests.running import running_service, settings_for
from tests.tls.issuing import Authority


@pytest.fixture(scope="module")
def address(sqlite_url: str) -> Iterator[str]:
    with running_service(settings_for(sqlite_url)) as address:
        yield address


@pytest.fixture(params=["sync", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """`connect`, or for the client of asyncio what looks like it."""
    with connecting(request.param) as connect:
        yield connect


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority()
