"""The log of a fault: it has the stack trace, and no content of tasks."""

import json
from pathlib import Path

import psycopg
import pytest
from grpc import StatusCode

from tests.postgres import fresh_database
from tests.running import refused
from tests.server.starting import serving

SECRET = "what nobody else may read"


@pytest.mark.parametrize("style", ["json", "console"])
def test_a_fault_is_logged_with_its_stack_and_without_content_of_tasks(
    tmp_path: Path, postgres: str, style: str
) -> None:
    with fresh_database(postgres) as url:
        arguments = ["--database-url", url, "--migrate", "--log-format", style]
        with serving(tmp_path, arguments) as server, server.api() as api:
            api.create(SECRET, SECRET)
            with psycopg.connect(url, autocommit=True) as admin:
                admin.execute("ALTER TABLE tasks ADD CONSTRAINT others CHECK (false) NOT VALID")
            with refused(StatusCode.INTERNAL, "INTERNAL") as refusal:
                api.create(SECRET, SECRET)
            server.process.terminate()
            _, log = server.process.communicate()
    error_id = refusal.message.rpartition(" ")[2].rstrip(".")
    assert error_id in log
    assert "CheckViolation" in log
    assert SECRET not in log
    if style == "json":
        [line] = [json.loads(line) for line in log.splitlines() if error_id in line]
        assert (line["level"], line["reason"], line["user"]) == ("error", "INTERNAL", api.user)
        assert line["exception"][0]["frames"]
