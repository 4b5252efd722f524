"""What the tests of the REST door share: a service with both doors, and clients of either."""

from collections.abc import Iterator

import pytest

from tests.rest.client import Client, RestApi
from tests.rpc.given import Rows
from tests.running import Doors, running_doors, settings_for

ANY_PORT = "127.0.0.1:0"


@pytest.fixture(scope="session")
def doors(sqlite_url: str) -> Iterator[Doors]:
    """A service with both doors, where a gateway names the user."""
    with running_doors(settings_for(sqlite_url, rest_address=ANY_PORT)) as found:
        yield found


@pytest.fixture(scope="session")
def client(doors: Doors) -> Iterator[Client]:
    client = Client(doors.rest)
    yield client
    client.close()


@pytest.fixture
def api(client: Client) -> RestApi:
    """The methods as a new user calls them over REST."""
    return RestApi(client)


@pytest.fixture
def rows(sqlite_url: str) -> Rows:
    return Rows(sqlite_url)
