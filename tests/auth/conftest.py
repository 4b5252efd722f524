"""Fixtures for tests of tokens: an issuer's keys, their publisher, and an attacker's keys."""

from collections.abc import Iterator

import pytest

from tests.auth.issuing import KeyPairs, Publisher, publishing


@pytest.fixture(scope="session")
def keys() -> KeyPairs:
    return KeyPairs()


@pytest.fixture(scope="session")
def attacker() -> KeyPairs:
    return KeyPairs()


@pytest.fixture
def publisher(keys: KeyPairs) -> Iterator[Publisher]:
    with publishing(keys.published()) as publisher:
        yield publisher
