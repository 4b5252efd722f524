"""The suites of the six methods, once more over REST: the same tasks, and the same errors.

On SQLite alone: the database does not see which of the two was used.
"""

import inspect
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest

from tests.rest.client import Client, RestApi
from tests.rest.conftest import ANY_PORT
from tests.rpc import (
    test_complete_task,
    test_create_task,
    test_delete_task,
    test_get_task,
    test_isolation,
    test_list_tasks,
    test_task_fields,
    test_update_task,
)
from tests.running import running_addresses, settings_for

SUITES = (
    test_create_task,
    test_list_tasks,
    test_get_task,
    test_update_task,
    test_delete_task,
    test_complete_task,
    test_task_fields,
    test_isolation,
)

# Requests that cannot be made over REST.
ELSEWHERE = {
    "test_update_task__without_a_mask_something_must_be_populated": "the keys of the body are the mask there",
    "test_update_task__an_unknown_path_is_refused": "createTime and Title are spellings of paths there",
    "test_update_task__a_camel_case_mask_path_is_refused_with_its_snake_case_name": "both spellings are taken there",
}

token = test_list_tasks.token


@pytest.fixture(scope="module")
def roomy_client(sqlite_url: str) -> Iterator[Client]:
    """Some tests send arguments that are longer than queries usually may be."""
    with running_addresses(settings_for(sqlite_url, rest_address=ANY_PORT, max_metadata_bytes=2**18)) as addresses:
        client = Client(addresses.rest)
        yield client
        client.close()


@pytest.fixture
def api(roomy_client: Client) -> RestApi:
    return RestApi(roomy_client)


def suite_of(suite: ModuleType) -> Iterator[tuple[str, Callable[..., object]]]:
    """The tests of a suite, by names that none of another suite has."""
    for name, test in inspect.getmembers(suite, inspect.isfunction):
        unique = f"{suite.__name__.rpartition('.')[2]}__{name.removeprefix('test_')}"
        if name.startswith("test_") and unique not in ELSEWHERE:
            yield unique, test


globals().update(found for suite in SUITES for found in suite_of(suite))
