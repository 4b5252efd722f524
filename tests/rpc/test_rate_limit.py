"""The limit to how often a user may call, seen by clients of a real server."""

import time
from itertools import islice, pairwise
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from taskwell.v1 import tasks_pb2

from service.rpc.rate_limit import MIN_DELAY, delays
from tests.methods import METHODS, well_formed
from tests.rpc.given import raw_call
from tests.running import Api, refused, running_service, settings_for
from tests.tls.issuing import GATEWAY, HOSTS, Authority, Files, secure_channel
from tests.waiting import until

NO_TASK = "0192f0c1-2d3e-7f4a-8b5c-6d7e8f901234"


@pytest.mark.parametrize("method", METHODS)
def test_a_user_who_calls_too_often_is_told_when_to_come_again(sqlite_url: str, method: str) -> None:
    settings = settings_for(sqlite_url, rate_limit=0.01, rate_burst=3)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        hasty, other = Api(channel), Api(channel)
        for _ in range(3):
            hasty.list()
        with refused(StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED") as refusal:
            hasty.call(method, well_formed(method, NO_TASK))
        assert refusal.retry_delay is not None
        assert 60 < refusal.retry_delay <= 100
        assert "try again" in refusal.message
        with refused(StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"):
            raw_call(channel, method, b"\xff", user=hasty.user).result()
        assert [other.create()] == list(other.list().tasks)


def test_a_refusal_is_held_back_so_that_who_tries_again_at_once_keeps_nobody_busy(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, rate_limit=0.01)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        hasty, other = Api(channel), Api(channel)
        hasty.list()
        began = time.monotonic()
        refusals = [hasty.start("ListTasks", tasks_pb2.ListTasksRequest()) for _ in range(100)]
        other.list()
        assert not any(refusal.done() for refusal in refusals) or time.monotonic() - began >= MIN_DELAY
        assert {refusal.code() for refusal in refusals} == {StatusCode.RESOURCE_EXHAUSTED}
        assert time.monotonic() - began >= MIN_DELAY


def test_a_refusal_comes_before_the_deadline_of_its_call(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, rate_limit=0.01)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        hasty = Api(channel)
        hasty.list()

        def is_refused() -> bool:
            call = raw_call(channel, "ListTasks", b"", user=hasty.user, timeout=MIN_DELAY * 0.8)
            return call.code() is StatusCode.RESOURCE_EXHAUSTED

        until(
            is_refused
        )  # sooner or later, since the half of the delay that is left may be too short on a busy machine


@pytest.mark.parametrize("count", [2, 3, 64, 1000])
def test_refusals_of_calls_that_came_together_are_given_one_by_one(count: int) -> None:
    given = sorted(islice(delays(), 7, 7 + count))
    assert given[0] >= MIN_DELAY
    assert given[-1] < 2 * MIN_DELAY
    evenly = MIN_DELAY / count
    assert all(evenly / 3 < later - earlier < 3 * evenly for earlier, later in pairwise(given))


def test_health_is_not_limited_and_neither_is_a_call_without_a_user(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, rate_limit=0.01)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for _ in range(10):
            health.Check(health_pb2.HealthCheckRequest())  # type: ignore[attr-defined]
            with refused(StatusCode.UNAUTHENTICATED, "CALLER_MISSING"):
                raw_call(channel, "ListTasks", b"").result()


def test_without_a_burst_the_calls_of_a_second_may_come_at_once(sqlite_url: str) -> None:
    settings = settings_for(sqlite_url, rate_limit=0.01)
    with running_service(settings) as address, grpc.insecure_channel(address) as channel:
        api = Api(channel)
        api.list()
        with refused(StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED"):
            api.list()


def test_who_may_not_speak_for_a_user_does_not_use_up_their_calls(sqlite_url: str, tmp_path: Path) -> None:
    authority = Authority()
    files = Files(tmp_path, authority.issue(*HOSTS), authority.pem)
    settings = settings_for(sqlite_url, **files.settings, tls_client_names=GATEWAY, rate_limit=0.01)
    with running_service(settings) as address:
        with secure_channel(address, authority.pem, authority.issue("other.example")) as channel:
            for _ in range(3):
                with refused(StatusCode.PERMISSION_DENIED, "PEER_NOT_ALLOWED"):
                    Api(channel, "alice").list()
        with secure_channel(address, authority.pem, authority.issue(GATEWAY)) as channel:
            Api(channel, "alice").list()
