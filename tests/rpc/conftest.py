"""Fixtures for tests of the gRPC service."""

import pytest

from tests.rpc.given import Rows


@pytest.fixture
def rows(request: pytest.FixtureRequest, database_name: str) -> Rows:
    """The rows under the service that `channel` and `api` speak to."""
    return Rows(request.getfixturevalue(f"{database_name}_url"))


@pytest.fixture
def database_name(request: pytest.FixtureRequest) -> str:
    """The kind of the database that the test's channel leads to."""
    name: str = request.node.callspec.params["channel"]
    return name
