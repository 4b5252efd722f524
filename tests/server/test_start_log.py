"""The first lines of the log: versions, effective settings without secrets, and why a server does not start."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from service.config.load import SettingsError, load_settings
from service.config.masked import masked
from tests.running import settings_for
from tests.server.starting import run, serving

CANARY = "canary-that-nobody-may-see-anywhere"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_the_first_line_has_versions_and_settings_and_no_secret(folder: Path) -> None:
    environment: dict[str, Any] = {
        "TASKWELL_AUTH": "jwt",
        "TASKWELL_JWT_SECRET": CANARY,
        "TASKWELL_JWT_ISSUER": "issuer",
        "TASKWELL_JWT_AUDIENCE": "audience",
        "TASKWELL_LOG_LEVEL": "debug",
    }
    with serving(folder, ["--workers", "2", "--log-slow-calls", "0.25"], **environment) as server:
        server.process.terminate()
        announcement, log = server.process.communicate()
    first, *others = lines(log)
    assert (first["event"], first["level"]) == ("starting", "info")
    assert first["taskwell"]
    assert first["grpcio"]
    assert first["python"]
    assert (first["settings"]["log_slow_calls"], first["settings"]["workers"]) == (0.25, 2)
    assert first["settings"]["database_url"].startswith("sqlite:///")
    assert "starting" not in {line["event"] for line in others}
    assert "Bearer" in server.hint
    assert CANARY not in server.hint + announcement + log


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nope"],
        ["--tls-cert", "missing.pem", "--tls-key", "missing.pem"],
        ["--metrics-address", "TAKEN", "--workers", "2"],
    ],
)
def test_a_start_that_fails_is_one_line_of_json(tmp_path: Path, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        given = [address if each == "TAKEN" else each for each in arguments]
        answer = run("serve", "--grpc-address", "127.0.0.1:0", *given, folder=tmp_path)
    assert answer.returncode in {1, 2}, answer
    assert answer.stdout == ""
    last = lines(answer.stderr)[-1]
    assert (last["event"], last["level"]) == ("cannot start", "critical")
    assert last["message"]
    assert last["message"] not in {line.get("message") for line in lines(answer.stderr)[:-1]}


def test_a_start_that_fails_is_a_sentence_where_the_log_is_for_people(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TASKWELL_LOG_FORMAT=console\nTASKWELL_USERS=nobody\n")
    answer = run("serve", folder=tmp_path)
    assert answer.stderr == "taskwell: TASKWELL_USERS: input should be 'any' or 'known'\n"
    answer = run("serve", folder=tmp_path, TASKWELL_LOG_FORMAT="json")
    assert lines(answer.stderr)[0]["event"] == "cannot start"


URLS = (
    f"postgresql+psycopg://alice:{CANARY}@127.0.0.1:1/tasks",
    f"postgresql://127.0.0.1:1/tasks?password={CANARY}&sslpassword={CANARY}",
    f"host=127.0.0.1 port=1 password={CANARY}",
)


def test_no_line_has_the_secrets_of_the_database_and_of_the_issuer(tmp_path: Path) -> None:
    given = {
        "auth": "jwt",
        "jwt_jwks": f"https://127.0.0.1:1/keys?token={CANARY}",
        "jwt_issuer": "issuer",
        "jwt_audience": "audience",
    }
    for url in URLS:
        shown = str(masked(settings_for(url, **given)))
        assert "https://127.0.0.1:1/keys" in shown
        assert "host=127.0.0.1" in shown
        assert CANARY not in shown
    environment = {f"TASKWELL_{name.upper()}": value for name, value in given.items()}
    more = {"TASKWELL_DATABASE_URL": URLS[1], "TASKWELL_LOG_LEVEL": "debug"}
    answer = run("serve", "--database-start-timeout", "0.001", folder=tmp_path, **environment, **more)
    assert [line["event"] for line in lines(answer.stderr)][-1] == "cannot start"
    assert CANARY not in answer.stdout + answer.stderr


@pytest.mark.parametrize("arguments", [["--jwt-secrt", CANARY], [f"--jwt-secrt={CANARY}"], [CANARY]])
def test_no_line_has_the_value_of_a_misspelled_flag(arguments: list[str]) -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings("taskwell serve", arguments)
    assert "unrecognized" in str(refused.value)
    assert CANARY not in str(refused.value)
