"""What the tests of TLS share: a CA, and another that nobody trusts."""

import pytest

from tests.tls.issuing import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="session")
def stranger() -> Authority:
    return Authority()
