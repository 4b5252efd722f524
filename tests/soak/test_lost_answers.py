"""The short form of tests/soak/lost_answers.py, and a test that the proxy loses responses of committed creates."""

from collections import Counter

import grpc
import pytest

from tests.running import Api, running_service, settings_for
from tests.soak.lost_answers import CLIENTS, EVERY, created, losing, titles_of

CREATES = 400


@pytest.mark.parametrize("kind", CLIENTS)
def test_lost_answers_leave_exactly_the_tasks_that_were_created(sqlite_url: str, kind: str) -> None:
    with running_service(settings_for(sqlite_url)) as address:
        proxy, tasks = created(address, kind, CREATES)
    assert proxy.lost == CREATES // EVERY
    assert CREATES + proxy.lost == proxy.requests
    assert Counter(titles_of(CREATES)) == tasks


def test_what_the_proxy_loses_was_committed(sqlite_url: str) -> None:
    with running_service(settings_for(sqlite_url)) as address, losing(address) as proxy:
        with grpc.insecure_channel(proxy.address) as channel:
            api = Api(channel)
            for _ in range(EVERY - 1):
                api.create()
            with pytest.raises(grpc.RpcError) as caught:
                api.create("Lost")
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        with grpc.insecure_channel(address) as channel:
            assert Api(channel, api.user).list().tasks[0].title == "Lost"
