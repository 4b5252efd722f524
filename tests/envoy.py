"""Runs Envoy from its wheel (requirements/envoy.txt)."""

import http.client
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.waiting import until

ENVOY = Path(__file__).resolve().parents[1] / ".venv-envoy" / "bin" / "envoy"


@contextmanager
def running_envoy(config: Mapping[str, Any], *, threads: int = 1) -> Iterator[str]:
    """Run Envoy with a configuration and an administration on a free port; yield the address of the latter."""
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder, "envoy.json"), Path(folder, "admin")
        path.write_text(json.dumps({**config, "admin": {"address": socket_address("127.0.0.1", 0)}}))
        command: list[str | Path] = [ENVOY, "--config-path", path, "--admin-address-path", said]
        with Path(folder, "log").open("w+") as log:
            options = ["--use-dynamic-base-id", "--concurrency", str(threads)]
            process = subprocess.Popen([*command, *options], stderr=log)
            try:
                until(lambda: process.poll() is not None or (said.exists() and listener(said.read_text()) is not None))
                assert process.poll() is None, log.seek(0) or log.read()
                yield said.read_text()
            finally:
                process.terminate()
                process.wait()


def listener(administration: str) -> str | None:
    """The address of the first listener; None before there is one."""
    statuses = json.loads(asked(administration, "/listeners?format=json")).get("listener_statuses", [])
    for status in statuses:
        address = status["local_address"]["socket_address"]
        return f"{address['address']}:{address['port_value']}"
    return None


def asked(administration: str, path: str) -> str:
    """What Envoy's administration answers."""
    connection = http.client.HTTPConnection(administration)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def socket_address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}
