"""Has a real Prometheus watch two replicas through a few minutes of load and faults, and saves the data of each panel.

python -m tests.observability.picture DATA; tools/dashboard_picture.py draws them.
"""

import json
import math
import re
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from service.log import configure_log
from tests import messages
from tests.messages import Rule
from tests.observability.cases import Watched, caller_floods, watched, worker_hit
from tests.observability.load import insecure, loaded
from tests.observability.prometheus import UNIT, Prometheus, filled, running_prometheus

_QUIET = 40.0
_FAULT = 30.0
_STEP = 2
_VARIABLES = {"job": "taskwell", "instance": ".*", "__rate_interval": "15s"}


def _faults(first: Watched, second: Watched) -> None:
    """A quiet time, then a caller that floods, a slow database, one that is away for a replica, and a dying worker."""
    assert first.system.proxy
    assert second.system.proxy
    time.sleep(_QUIET)
    with caller_floods(first, channels=2, outstanding=32):
        time.sleep(_FAULT)
    time.sleep(_QUIET)
    slow = Rule((b"B",), messages.delay(0.1), times=10**9)
    second.system.proxy.apply(slow)
    time.sleep(_FAULT)
    second.system.proxy.remove(slow)
    time.sleep(_QUIET)
    first.system.proxy.refuse()
    time.sleep(_FAULT / 2)
    first.system.proxy.accept()
    time.sleep(_QUIET)
    with worker_hit(signal.SIGKILL, times=1)(first):
        time.sleep(_QUIET)


def _data(prometheus: Prometheus, begun: float) -> dict[str, Any]:
    """The series of each panel, by its id."""
    dashboard = json.loads((UNIT / "dashboard.json").read_text())
    return {
        str(panel["id"]): [series for target in panel["targets"] for series in _series(prometheus, target, begun)]
        for panel in dashboard["panels"]
        if panel.get("targets")
    }


def _series(prometheus: Prometheus, target: dict[str, str], begun: float) -> Iterator[dict[str, Any]]:
    found = prometheus.ask(
        "query_range",
        query=filled(target["expr"], _VARIABLES),
        start=str(begun),
        end=str(time.time()),
        step=str(_STEP),
    )
    for series in found["result"]:
        points = [(at, float(value)) for at, value in series["values"] if math.isfinite(float(value))]
        if points:
            yield {
                "name": _named(target["legendFormat"], series["metric"]),
                "times": [at for at, _ in points],
                "values": [value for _, value in points],
            }


def _named(legend: str, labels: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda label: labels.get(label[1], ""), legend)


def main() -> None:
    configure_log("warning", "auto")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taskwell-picture-")))
        replicas = [stack.enter_context(watched({"RATE_LIMIT": "200"})) for _ in range(2)]
        targets = [replica.metrics_address for replica in replicas]
        prometheus = stack.enter_context(running_prometheus(folder, targets, rules=UNIT / "rules.yaml"))
        for replica in replicas:
            stack.enter_context(loaded(insecure(replica.system.server.address), threads=6))
        begun = time.time()
        _faults(*replicas)
        Path(sys.argv[1]).write_text(json.dumps(_data(prometheus, begun)))


if __name__ == "__main__":
    main()
