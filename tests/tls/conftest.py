"""Fixtures for tests of TLS: a CA, and another CA that no one trusts."""

import pytest

from tests.tls.issuing import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority()
