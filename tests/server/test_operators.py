"""Mistakes of operators: each ends with a message that helps, and no traceback."""

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from service.db.schema import Schema
from service.db.url import parse_database_url
from tests.postgres import fresh_database
from tests.server.starting import COMMAND, TIMEOUT, run, serving


@pytest.fixture
def url(postgres: str) -> Iterator[str]:
    with fresh_database(postgres) as url:
        yield url


@pytest.fixture
def role(url: str) -> Iterator[str]:
    """A database role without privileges."""
    name = f"role_{uuid4().hex}"
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {name} LOGIN")
        yield name
        admin.execute(f"DROP OWNED BY {name}")
        admin.execute(f"DROP ROLE {name}")


def sentence(folder: Path, *command: str) -> str:
    """Run a command that must fail and return its message."""
    answer = run(*command, folder=folder)
    assert answer.returncode == 1, answer
    assert "Traceback" not in answer.stderr
    assert answer.stdout == ""
    return answer.stderr


def test_a_database_role_that_may_not_create_tables(tmp_path: Path, url: str, role: str) -> None:
    said = sentence(tmp_path, "migrate", "up", "--database-url", make_conninfo(url, user=role))
    assert "refused: permission denied for schema public" in said


def test_a_database_role_that_may_not_write(tmp_path: Path, url: str, role: str) -> None:
    Schema(parse_database_url(url)).up()
    theirs = make_conninfo(url, user=role)
    with psycopg.connect(url, autocommit=True) as admin:
        assert "refused: permission denied" in sentence(tmp_path, "check", "--database-url", theirs)
        admin.execute(f"GRANT SELECT ON alembic_version, tasks, users TO {role}")
        assert "GRANT INSERT ON tasks" in sentence(tmp_path, "check", "--database-url", theirs)
        assert "GRANT INSERT ON tasks" in sentence(tmp_path, "serve", "--database-url", theirs)
        admin.execute(f"GRANT INSERT, UPDATE, DELETE ON tasks TO {role}")
        assert "GRANT INSERT ON users" in sentence(tmp_path, "check", "--database-url", theirs)
        assert run("check", "--database-url", theirs, "--users", "known", folder=tmp_path).returncode == 0


def test_a_database_with_tables_of_another_program(tmp_path: Path, url: str) -> None:
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE TABLE users (name text)")
    assert 'refused: relation "users" already exists' in sentence(tmp_path, "migrate", "up", "--database-url", url)


def test_a_database_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = sentence(tmp_path, "serve", "--database-url", "sqlite:///file/taskwell.db")
    assert "TASKWELL_DATABASE_URL" in said


def test_a_folder_in_place_of_the_database_file(tmp_path: Path) -> None:
    (tmp_path / "taskwell.db").mkdir()
    assert "cannot reach the database" in sentence(tmp_path, "serve")


def test_a_host_name_with_an_address_in_use(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in sentence(tmp_path, "serve", "--grpc-address", f"localhost:{port}")


def test_an_env_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"TASKWELL_USERS=\xff\xfe")
    answer = run("config", folder=tmp_path)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr.startswith("taskwell: the file .env cannot be read as UTF-8 text")


def test_a_misspelled_setting(tmp_path: Path) -> None:
    answer = run("config", folder=tmp_path, TASKWELL_GRPC_ADRESS="127.0.0.1:1")
    assert (answer.returncode, answer.stdout) == (2, "")
    assert "TASKWELL_GRPC_ADRESS: there is no such setting; did you mean TASKWELL_GRPC_ADDRESS?" in answer.stderr


def test_variables_that_kubernetes_injects_are_ignored(tmp_path: Path) -> None:
    injected = {
        "TASKWELL_SERVICE_HOST": "10.0.0.1",
        "TASKWELL_SERVICE_PORT": "50051",
        "TASKWELL_PORT": "tcp://10.0.0.1:50051",
        "TASKWELL_PORT_50051_TCP_ADDR": "10.0.0.1",
        "TASKWELL_GRPC_SERVICE_HOST": "10.0.0.1",
    }
    assert run("config", folder=tmp_path, **injected).returncode == 0


def test_a_closed_pipe_ends_a_command_quietly(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as unread:
        process = subprocess.run(
            [*COMMAND, "config"], cwd=tmp_path, stdout=unread, stderr=subprocess.PIPE, timeout=TIMEOUT, check=False
        )
    assert process.stderr == b""


def test_health_ignores_proxies_from_the_environment(folder: Path) -> None:
    with serving(folder) as server:
        answer = run("health", "--grpc-address", server.address, folder=folder, http_proxy="http://127.0.0.1:9")
    assert answer.stdout == "SERVING\n"
