"""The short form of tests/soak/isolation.py, and a test of its comparison."""

import grpc
import pytest

from tests.methods import METHODS, names_a_task
from tests.running import Api, running_service, settings_for
from tests.soak.isolation import Victim, alone, is_as_alone

OPERATIONS = 1_500
ATTACKS = {f"{method} {'NOT_FOUND' if names_a_task(method) else 'OK'}" for method in METHODS}
# Creates that are refused for what they hold themselves.
REFUSED = {"CreateTask INVALID_ARGUMENT", "CreateTask ALREADY_EXISTS"}


def test_a_user_whose_ids_are_attacked_sees_what_they_would_see_alone(database_url: str) -> None:
    with running_service(settings_for(database_url)) as address:
        same, told = is_as_alone(address, OPERATIONS)
    assert set(told.partition("attacks: ")[2].split(", ")) - REFUSED == ATTACKS
    assert same, told


def disturbed(address: str, disturb: int) -> str:
    """The view of a victim whose newest task somebody else has changed once."""
    with grpc.insecure_channel(address) as channel:
        victim = Victim(Api(channel), [])
        for number in range(100):
            victim.act()
            if number == disturb:
                accomplice = Api(channel, victim.api.user)
                accomplice.update(victim.ids[-1], description="Changed")
        victim.look_around()
    return victim.view.hexdigest()


@pytest.mark.parametrize("disturb", [30, 60, 99])
def test_the_comparison_would_notice_one_change(sqlite_url: str, disturb: int) -> None:
    with running_service(settings_for(sqlite_url)) as address:
        undisturbed = alone(address, 100).hexdigest()
        assert alone(address, 100).hexdigest() == undisturbed
        assert disturbed(address, disturb) != undisturbed
