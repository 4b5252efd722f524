"""TLS of a process: invalid files, the health check, and no leaks of private keys."""

import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.running import Api
from tests.server.starting import TIMEOUT, run, serving
from tests.tls.issuing import GATEWAY, HOSTS, Authority, Files, secure_channel


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


def environment_of(files: Files, **more: object) -> dict[str, Any]:
    values = {**files.settings, **more}
    if files.client_ca:
        values["tls_client_names"] = GATEWAY
    return {f"TASKWELL_{name.upper()}": str(value) for name, value in values.items()}


def test_an_invalid_certificate_file_stops_serve_and_check(folder: Path, authority: Authority) -> None:
    files = Files(folder, authority.issue(*HOSTS))
    files.cert.write_bytes(authority.issue(*HOSTS).chain)
    for command in ("serve", "check"):
        answer = run(command, folder=folder, **environment_of(files))
        assert (answer.returncode, answer.stdout) == (1, "")
        # `serve` writes it as a line of its log.
        sentence = "TASKWELL_TLS_KEY: it is not the key of the first certificate in TASKWELL_TLS_CERT"
        assert sentence in answer.stderr.splitlines()[-1]


def test_an_expired_certificate_stops_serve_and_check(folder: Path, authority: Authority) -> None:
    files = Files(folder, authority.dated(timedelta(days=-9), timedelta(seconds=-1)))
    for command in ("serve", "check"):
        answer = run(command, folder=folder, **environment_of(files))
        assert (answer.returncode, answer.stdout) == (1, "")
        sentence = "TASKWELL_TLS_CERT: the certificate has expired: it was valid until 20"
        assert sentence in answer.stderr.splitlines()[-1]


def test_serve_announces_an_example_call_with_tls_flags(folder: Path, authority: Authority) -> None:
    for client_ca, flags in ((None, "-cacert CA.pem"), (authority.pem, "-cacert CA.pem -cert CERT.pem -key KEY.pem")):
        files = Files(folder, authority.issue(*HOSTS), client_ca)
        with serving(folder, **environment_of(files)) as server:
            assert f"grpcurl {flags} -H 'x-user-id: alice'" in server.hint


@pytest.mark.parametrize("mutual", [False, True], ids=["tls", "mutual tls"])
@pytest.mark.parametrize("name", ["127.0.0.1", "tasks.example"])
def test_health_uses_the_server_certificate_by_default(
    folder: Path, authority: Authority, mutual: bool, name: str
) -> None:
    files = Files(folder, authority.issue(name), authority.pem if mutual else None)
    environment = environment_of(files)
    with serving(folder, **environment) as server:
        answer = run("health", "--grpc-address", server.address, folder=folder, **environment)
        assert (answer.returncode, answer.stdout) == (0, "SERVING\n"), answer.stderr
        assert run("health", "--grpc-address", server.address, folder=folder).returncode == 1, "it speaks TLS"


def test_mutual_tls_leaves_probes_and_metrics_in_plain_http(folder: Path, authority: Authority) -> None:
    files = Files(folder, authority.dated(timedelta(days=-1), timedelta(days=30)), authority.pem)
    environment = environment_of(files, metrics_address="127.0.0.1:0")
    with serving(folder, **environment) as server:
        pages = {}
        for page in ("livez", "readyz", "metrics"):
            with urlopen(f"http://{server.metrics_address}/{page}", timeout=TIMEOUT) as answer:
                pages[page] = answer.read().decode()
        server.process.terminate()
        log = server.process.communicate()[1]
    assert (pages["livez"], pages["readyz"]) == ("alive\n", "ready\n")
    families = {family.name: family for family in text_string_to_metric_families(pages["metrics"])}
    samples = families["taskwell_tls_not_after_timestamp_seconds"].samples
    ends = {sample.labels["file"]: sample.value for sample in samples}
    assert ends["certificate"] == pytest.approx(time.time() + 30 * 86_400, abs=3600)
    assert ends["client_ca"] > time.time()
    assert log.count("certificate read") == 1


def test_health_uses_its_own_ca_and_certificate(folder: Path, authority: Authority) -> None:
    clients = Authority()
    client, ca = clients.issue("probe.example"), folder / "ca.pem"
    files = Files(folder, authority.issue("tasks.example"), clients.pem)
    ca.write_bytes(authority.pem)
    cert, key = folder / "probe.pem", folder / "probe-key.pem"
    cert.write_bytes(client.chain)
    key.write_bytes(client.key)
    environment = environment_of(files)
    with serving(folder, **environment) as server:
        address = ("--grpc-address", server.address)
        assert run("health", *address, folder=folder, **environment).stdout == "UNAVAILABLE\n", "of another CA"
        shown = environment_of(files, health_ca=ca, health_cert=cert, health_key=key)
        assert run("health", *address, folder=folder, **shown).stdout == "SERVING\n"
        ca.write_bytes(clients.pem)
        assert run("health", *address, folder=folder, **shown).stdout == "UNAVAILABLE\n", "verified by another CA"


def test_no_output_or_response_contains_a_private_key(folder: Path, authority: Authority) -> None:
    issued, broken = authority.issue(*HOSTS), authority.issue(*HOSTS)
    files = Files(folder, issued, authority.pem)
    environment = environment_of(files, log_level="debug")
    gateway = authority.issue(GATEWAY)
    with serving(folder, **environment) as server:
        told = ""
        for key, client in ((issued.key, gateway), (broken.key, gateway), (broken.key[:-40], authority.issue("x"))):
            files.key.write_bytes(key)
            with secure_channel(server.address, authority.pem, client) as channel:
                api = Api(channel)
                try:
                    told += str(api.create())
                except grpc.RpcError as error:
                    told += f"{error!r} {error.trailing_metadata()}"
        server.process.terminate()
        written = "".join(server.process.communicate())
    for command in ("config", "check", "serve"):
        answer = run(command, folder=folder, **environment)
        written += answer.stdout + answer.stderr
    assert "PEER_NOT_ALLOWED" in told
    assert written.count("certificate not read") == 2
    for pem in (issued.key, broken.key, gateway.key):
        lines = pem.decode().splitlines()[1:-1]
        for canary in ("".join(lines)[at : at + 12] for at in range(len("".join(lines)) - 12)):
            assert canary not in told + written
