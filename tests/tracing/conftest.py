"""Fixtures: a traced service on SQLite, shared by the tests, and a channel to it."""

from collections.abc import Iterator

import grpc
import pytest

from tests.running import settings_for
from tests.tracing.traced import TracedService, traced_service


@pytest.fixture(scope="session")
def traced(sqlite_url: str) -> Iterator[TracedService]:
    settings = settings_for(sqlite_url, rest_address="127.0.0.1:0", max_call_seconds=30)
    with traced_service(settings) as service:
        yield service


@pytest.fixture(scope="session")
def traced_channel(traced: TracedService) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(traced.addresses.grpc) as channel:
        yield channel
