"""The pages of the metrics address: liveness, readiness, unknown paths, and an event loop that stands still."""

from contextlib import closing
from http.client import HTTPConnection, HTTPResponse
from typing import NamedTuple

import pytest

from service.address import Address
from service.metrics.endpoint import MetricsEndpoint
from service.metrics.probes import LoopWatch
from service.metrics.recorder import Metrics
from service.readiness import Readiness
from tests.waiting import eventually, until


class Given(NamedTuple):
    """A running endpoint and what its probes tell."""

    endpoint: MetricsEndpoint
    readiness: Readiness

    def send(self, path: str, method: str = "GET") -> tuple[HTTPResponse, str]:
        # In the thread of the event loop, which stands still meanwhile: the endpoint has threads of its own.
        with closing(HTTPConnection(str(self.endpoint.address), timeout=60)) as connection:
            connection.request(method, path)
            response = connection.getresponse()
            return response, response.read().decode()

    def get(self, path: str) -> tuple[int, str]:
        response, body = self.send(path)
        return response.status, body


@pytest.fixture
async def given() -> Given:
    readiness = Readiness()
    endpoint = MetricsEndpoint(Address("127.0.0.1", 0), Metrics({}), readiness=readiness, hang_timeout=0.1)
    endpoint.start()
    return Given(endpoint, readiness)


async def test_livez_and_readyz_are_plain_text(given: Given) -> None:
    assert given.get("/livez") == (200, "alive\n")
    assert given.get("/readyz?verbose") == (200, "ready\n")
    response, _ = given.send("/readyz")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["cache-control"] == "no-store"


async def test_readyz_names_each_reason_with_its_details_and_livez_stays_ok(given: Given) -> None:
    given.readiness.block("the server is starting")
    given.readiness.block("no keys", "https://issuer.example: timed out")
    expected = "not ready\nthe server is starting\nno keys: https://issuer.example: timed out\n"
    assert given.get("/readyz") == (503, expected)
    assert given.get("/livez") == (200, "alive\n")
    given.readiness.unblock("the server is starting")
    given.readiness.unblock("no keys")
    assert given.get("/readyz") == (200, "ready\n")


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/favicon.ico"])
async def test_head_has_the_headers_of_get_and_no_body(given: Given, path: str) -> None:
    (get, body), (head, nothing) = given.send(path), given.send(path, "HEAD")
    assert nothing == ""
    assert int(get.headers["content-length"]) == len(body)
    assert int(head.headers["content-length"]) > 0
    differing = {"Date": "", "Content-Length": ""}
    assert (head.status, {**head.headers, **differing}) == (get.status, {**get.headers, **differing})


@pytest.mark.parametrize("path", ["/", "/metrics/", "/readyz/keys", "/favicon.ico"])
async def test_an_unknown_path_of_the_metrics_address_is_not_found(given: Given, path: str) -> None:
    assert given.get(path) == (404, "There is no such page here: see /metrics, /livez, /readyz.\n")


@pytest.mark.parametrize("path", ["/livez", "/metrics"])
async def test_other_methods_are_refused(given: Given, path: str) -> None:
    response, _ = given.send(path, "POST")
    assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")


async def test_livez_fails_while_the_event_loop_stands_still(given: Given) -> None:
    until(lambda: given.get("/livez")[0] == 503)
    status, body = given.get("/readyz")
    assert status == 503
    assert body.startswith("not ready\nthe event loop has not run for ")
    await eventually(lambda: given.get("/livez") == (200, "alive\n"))
    assert given.get("/readyz") == (200, "ready\n")


def test_livez_does_not_count_time_in_which_the_whole_process_was_stopped() -> None:
    now = [0.0]
    watch = LoopWatch(10, lambda: now[0])
    watch.tick()
    for pause, silent in ((0.5, 0.5), (3600.0, 1.5), (0.5, 2.0)):
        now[0] += pause
        watch.tick()
        assert (watch.silent, watch.hangs) == (silent, False)
    for _ in range(17):
        now[0] += 0.5
        watch.tick()
    assert (watch.silent, watch.hangs) == (10.5, True)
    watch.beat()
    watch.tick()
    assert not watch.hangs
