"""The pages of the metrics address: `/livez`, `/readyz` and `/metrics`.

A thread serves them beside the event loop, so they answer when the event loop is busy or stands still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog

from service.metrics.http_server import SERVER

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from service.readiness import Readiness

_log = structlog.get_logger("metrics")

Page: TypeAlias = Callable[[], tuple[bool, Iterable[str]]]
"""Returns True for 200 and False for 503, and the lines of the body."""

_TEXT = [("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store")]


class LoopWatch:
    """Measures how long the event loop has stood still (s).

    Another thread calls `tick` about twice a second. Only time in which that thread ran as well counts: when the whole
    process was stopped, as a container or a virtual machine is, the event loop is not to blame.
    """

    def __init__(self, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._beaten = True
        self._ticked = clock()
        self.silent = 0.0

    @property
    def hangs(self) -> bool:
        """True if the event loop has stood still for longer than the limit."""
        return self.silent > self._limit

    def beat(self) -> None:
        """Note that the event loop runs; it calls this once a second."""
        self._beaten = True

    def tick(self) -> None:
        now = self._clock()
        self.silent = 0.0 if self._beaten else self.silent + min(now - self._ticked, 1.0)
        self._beaten = False
        self._ticked = now


def pages(metrics: WSGIApplication, readiness: Readiness, watch: LoopWatch) -> WSGIApplication:
    """Return the application of the metrics address; `metrics` serves `/metrics`."""

    def live() -> tuple[bool, Iterable[str]]:
        if watch.hangs:
            return False, ["not alive", f"the event loop has not run for {watch.silent:.0f} s"]
        return True, ["alive"]

    def ready() -> tuple[bool, Iterable[str]]:
        reasons = [f"{reason}: {details}" if details else reason for reason, details in readiness.reasons.items()]
        is_alive, (_, *stands_still) = live()
        if reasons or not is_alive:
            return False, ["not ready", *reasons, *stands_still]
        return True, ["ready"]

    apps = {"/metrics": metrics, "/livez": _page(live), "/readyz": _page(ready)}

    def respond(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        app = apps.get(environ["PATH_INFO"])
        if app is None:
            start("404 Not Found", _TEXT)
            return [f"There is no such page here: see {', '.join(apps)}.\n".encode()]
        if environ["REQUEST_METHOD"] not in {"GET", "HEAD"}:
            start("405 Method Not Allowed", [*_TEXT, ("Allow", "GET, HEAD")])
            return [b"Use GET or HEAD.\n"]
        return app({**environ, "REQUEST_METHOD": "GET"}, start)

    return _for_wsgiref(respond)


def _page(page: Page) -> WSGIApplication:
    def respond(_: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        is_well, lines = page()
        start("200 OK" if is_well else "503 Service Unavailable", _TEXT)
        return ["".join(f"{line}\n" for line in lines).encode()]

    return respond


def _for_wsgiref(app: WSGIApplication) -> WSGIApplication:
    """Add what wsgiref lacks: responses without a body to HEAD, no version in `Server`, failures in the log."""

    def respond(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]], *_error: Any) -> Any:  # noqa: ANN401 - of WSGI
            started[:] = [(status, headers)]

        try:
            body = b"".join(app(environ, start))
        except Exception:  # noqa: BLE001 - whatever a metrics file has in it
            _log.exception("metrics cannot be read")
            start("500 Internal Server Error", _TEXT)
            body = b"The metrics cannot be read: see the log.\n"
        [(status, headers)] = started
        start_response(status, [*headers, ("Content-Length", str(len(body))), ("Server", SERVER)])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return respond
