"""Fixtures for all tests: both databases, a service on each, a client for a new user."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings

from service.db.url import parse_database_url
from service.log import configure_log
from tests.distribution import IS_DISTRIBUTED, VARIABLES, migrate
from tests.postgres import URL_VARIABLE, fresh_database, running_postgres
from tests.running import Api, running_service, settings_for

# Tests set all settings themselves: ignore those of the environment.
for name in [name for name in os.environ if name.startswith("TASKWELL_") and name not in {URL_VARIABLE, *VARIABLES}]:
    del os.environ[name]

# A log line for each call would take a fifth of the time of the tests.
configure_log("warning", "json")

hypothesis_settings.register_profile(
    "taskwell",
    deadline=None,  # a slow machine is no failure
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# With pytest's --hypothesis-profile=long, as `make soak-requests` does.
hypothesis_settings.register_profile("long", hypothesis_settings.get_profile("taskwell"), max_examples=1000)
hypothesis_settings.load_profile("taskwell")

DATABASES = ("postgresql",) if IS_DISTRIBUTED else ("sqlite", "postgresql")


def pytest_configure(config: pytest.Config) -> None:
    """Start one PostgreSQL for all xdist workers, which find it by the variable."""
    if config.getoption("numprocesses", None) and URL_VARIABLE not in os.environ:
        running = ExitStack()
        os.environ[URL_VARIABLE] = running.enter_context(running_postgres(hasty=True))
        config.add_cleanup(running.close)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server in which tests create databases."""
    with running_postgres(hasty=True) as url:
        yield url


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    return _migrated(f"sqlite:///{tmp_path_factory.mktemp('sqlite') / 'taskwell.db'}")


@pytest.fixture(scope="session")
def postgresql_url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield _migrated(url)


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of either kind, shared by all tests: each test uses new users."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path, database_kind: str) -> Iterator[str]:
    """An empty database of either kind, for one test."""
    if database_kind == "sqlite":
        yield f"sqlite:///{tmp_path / 'taskwell.db'}"
    else:
        with fresh_database(request.getfixturevalue("postgres")) as url:
            yield url


@pytest.fixture(params=DATABASES)
def database_kind(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(scope="session")
def sqlite_channel(sqlite_url: str) -> Iterator[grpc.Channel]:
    with running_service(settings_for(sqlite_url)) as address, grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(scope="session")
def postgresql_channel(postgresql_url: str) -> Iterator[grpc.Channel]:
    with running_service(settings_for(postgresql_url)) as address, grpc.insecure_channel(address) as channel:
        yield channel


@pytest.fixture(params=DATABASES)
def channel(request: pytest.FixtureRequest) -> grpc.Channel:
    """A channel to a service on either database."""
    channel: grpc.Channel = request.getfixturevalue(f"{request.param}_channel")
    return channel


@pytest.fixture
def api(channel: grpc.Channel) -> Api:
    """A client of a new user, on either database."""
    return Api(channel)


def _migrated(url: str) -> str:
    migrate(parse_database_url(url))
    return url
