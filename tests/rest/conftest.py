"""Fixtures for tests of REST: a service with gRPC and REST, and clients of both."""

from collections.abc import Iterator

import pytest

from tests.rest.client import Client, RestApi
from tests.rpc.given import Rows
from tests.running import Addresses, running_addresses, settings_for

ANY_PORT = "127.0.0.1:0"


@pytest.fixture(scope="session")
def addresses(sqlite_url: str) -> Iterator[Addresses]:
    """The addresses of a service with gRPC and REST that trusts x-user-id."""
    with running_addresses(settings_for(sqlite_url, rest_address=ANY_PORT)) as found:
        yield found


@pytest.fixture(scope="session")
def client(addresses: Addresses) -> Iterator[Client]:
    client = Client(addresses.rest)
    yield client
    client.close()


@pytest.fixture
def api(client: Client) -> RestApi:
    """The methods as a new user calls them over REST."""
    return RestApi(client)


@pytest.fixture
def rows(sqlite_url: str) -> Rows:
    return Rows(sqlite_url)
