"""No leaks of the database password. (Tokens: test_authentication.py. Private keys: test_tls_commands.py.)"""

from pathlib import Path
from typing import Any

import grpc
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.postgres import fresh_database
from tests.running import Api
from tests.server.starting import run, serving

PASSWORD = "canary-of-the-database"


def fails(api: Api) -> str:
    """Return everything that a failed call tells its caller."""
    with pytest.raises(grpc.RpcError) as caught:
        api.create()
    failure: Any = caught.value
    return f"{failure!r} {failure.trailing_metadata()}"


def test_no_output_or_response_contains_the_database_password(tmp_path: Path, postgres: str) -> None:
    with fresh_database(postgres) as url:
        environment: dict[str, Any] = {
            "TASKWELL_DATABASE_URL": make_conninfo(url, password=PASSWORD),
            "TASKWELL_LOG_LEVEL": "debug",
        }
        commands = [["migrate", "up"], ["check"], ["config"], ["health"], ["migrate", "up", "nowhere"]]
        answers = [run(*command, folder=tmp_path, **environment) for command in commands]
        with serving(tmp_path, **environment) as server, server.api() as api:
            api.create()
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("ALTER TABLE tasks ADD CONSTRAINT others CHECK (false) NOT VALID")
            told = fails(api)
            with psycopg.connect(postgres, autocommit=True) as admin:
                name = conninfo_to_dict(url)["dbname"]
                admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
                told += fails(api)
                admin.execute(f"CREATE DATABASE {name}")
            server.process.terminate()
            written = "".join(server.process.communicate())
        answers.append(run("check", folder=tmp_path, **environment))
    assert "INTERNAL" in told
    assert "DATABASE_UNAVAILABLE" in told
    assert "does not exist" in written, "the log has the driver's message"
    shown = "".join(answer.stdout + answer.stderr for answer in answers)
    assert "ok: the settings" in shown
    for at in range(len(PASSWORD) - 8):
        assert PASSWORD[at : at + 8] not in told + written + shown
