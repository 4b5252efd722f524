"""JWT authentication of a process: the command `token`, and no leaks of tokens and secrets."""

import secrets
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc import StatusCode

from tests.running import Api, refused
from tests.server.starting import run, serving

ISSUER = {"TASKWELL_AUTH": "jwt", "TASKWELL_JWT_ISSUER": "https://issuer.example", "TASKWELL_JWT_AUDIENCE": "taskwell"}


@pytest.fixture
def environment() -> dict[str, Any]:
    """Settings of a server that verifies tokens with a shared secret."""
    return {**ISSUER, "TASKWELL_JWT_SECRET": secrets.token_hex(16)}


def test_token_command_makes_a_token_that_the_server_accepts(folder: Path, environment: dict[str, Any]) -> None:
    answer = run("token", "--user", "alice", folder=folder, **environment)
    assert (answer.returncode, answer.stderr) == (0, "")
    with serving(folder, **environment) as server, grpc.insecure_channel(server.address) as channel:
        api = Api(channel, token=answer.stdout.strip())
        assert [api.create()] == list(api.list().tasks)
        assert '-H "authorization: Bearer $(taskwell token --user alice)"' in server.hint


def test_token_command_sets_scopes_and_expiry(folder: Path, environment: dict[str, Any]) -> None:
    environment["TASKWELL_JWT_SCOPE_CLAIM"] = "scope"

    def made(*arguments: str) -> str:
        return run("token", "--user=alice", *arguments, folder=folder, **environment).stdout.strip()

    with serving(folder, **environment) as server, grpc.insecure_channel(server.address) as channel:
        Api(channel, token=made()).create()
        reading = Api(channel, token=made("--scope", "tasks.read"))
        assert len(reading.list().tasks) == 1
        with refused(StatusCode.PERMISSION_DENIED, "SCOPE_MISSING"):
            reading.create()
        with refused(StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED"):
            Api(channel, token=made("--expires-in", "-31")).list()


@pytest.mark.parametrize(
    ("settings", "arguments", "sentence"),
    [
        ({}, ["--user", "alice"], "only with TASKWELL_AUTH=jwt and TASKWELL_JWT_SECRET"),
        ({**ISSUER, "TASKWELL_JWT_JWKS": "jwks.json"}, ["--user", "alice"], "only the issuer has the private key"),
        ({**ISSUER, "TASKWELL_JWT_SECRET": "x" * 32}, ["--user", "alice bob"], "1 to 255 printable"),
        ({**ISSUER, "TASKWELL_JWT_SECRET": "x" * 32}, [], "--user"),
        ({**ISSUER, "TASKWELL_JWT_SECRET": "x" * 32}, ["--user", "alice", "--expires-in", "soon"], "--expires-in"),
        ({**ISSUER, "TASKWELL_JWT_SECRET": "x" * 32}, ["--use", "alice"], "--user"),
    ],
)
def test_token_command_refuses_wrong_arguments_and_settings(
    folder: Path, settings: dict[str, str], arguments: list[str], sentence: str
) -> None:
    answer = run("token", *arguments, folder=folder, **settings)
    assert answer.returncode != 0
    assert answer.stdout == ""
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_missing_jwks_file_stops_the_start(folder: Path) -> None:
    answer = run("serve", folder=folder, **ISSUER, TASKWELL_JWT_JWKS="missing.json")
    assert answer.returncode == 1
    assert "TASKWELL_JWT_JWKS: missing.json: the file cannot be read: No such file" in answer.stderr
    assert "Traceback" not in answer.stderr


def answers(channel: grpc.Channel, token: str) -> str:
    """Return all responses to calls that carry this token, in every place it could be in."""
    told = ""
    for metadata in (
        [("authorization", f"Bearer {token}")],
        [("authorization", token)],
        [("authorization", f"Bearer {token}")] * 2,
        [("authorization", f"Bearer x{token}")],
        [("authorization", f"Bearer {token[:-1]}")],
        [("authorization", f"Bearer {token.replace('.', '')}")],
        [("authorization", f"Bearer {token}{'x' * 9000}")],
        [("x-user-id", token)],
    ):
        api = Api(channel)
        api.metadata = metadata
        try:
            told += str(api.list())
        except grpc.RpcError as error:
            told += f"{error!r} {error.trailing_metadata()}"
    return told


def test_no_output_or_response_contains_a_token_or_the_secret(folder: Path, environment: dict[str, Any]) -> None:
    secret = environment["TASKWELL_JWT_SECRET"]
    strange = {**environment, "TASKWELL_JWT_SECRET": "x" * 32}
    good, other = (run("token", "--user", user, folder=folder, **environment).stdout.strip() for user in "ab")
    foreign = run("token", "--user", "eve", folder=folder, **strange).stdout.strip()
    with serving(folder, ["--log-level", "debug"], **environment) as server:
        with grpc.insecure_channel(server.address) as channel:
            told = "".join(answers(channel, token) for token in (good, other, foreign))
        server.process.terminate()
        written = "".join(server.process.communicate())
    shown = run("config", folder=folder, **environment).stdout
    assert "TOKEN_SIGNATURE" in told
    assert "TOKEN_SIGNATURE" in written
    assert '"user":"a"' in written.replace(" ", ""), "successful calls are logged at debug"
    canaries = [secret, *(part for token in (good, other, foreign) for part in token.split(".")[1:])]
    for canary in canaries:
        for at in range(len(canary) - 12):
            assert canary[at : at + 12] not in told + written + shown
