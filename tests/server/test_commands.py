"""The commands config, check, migrate and health."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.postgres import fresh_database
from tests.server.starting import TIMEOUT, run, serving
from tests.waiting import until

REVISIONS = sorted(file.name[:8] for file in (Path(__file__).parents[2] / "migrations" / "versions").glob("2*.py"))


def test_usage_is_printed_without_a_command(tmp_path: Path) -> None:
    for arguments in ([], ["--help"], ["help"]):
        answer = run(*arguments, folder=tmp_path)
        assert answer.returncode == 0
        assert answer.stdout.startswith("usage: taskwell COMMAND")


def test_an_unknown_command_prints_the_usage(tmp_path: Path) -> None:
    answer = run("start", folder=tmp_path)
    assert answer.returncode == 2
    assert "there is no command 'start'" in answer.stderr
    assert "serve" in answer.stderr


def test_help_lists_every_setting(tmp_path: Path) -> None:
    answer = run("serve", "--help", folder=tmp_path)
    assert answer.returncode == 0
    for flag in ("--grpc-address", "--database-url", "--trust-network", "--migrate", "--shutdown-grace"):
        assert flag in answer.stdout


def test_an_invalid_setting_stops_every_command(tmp_path: Path) -> None:
    for command in (["serve"], ["migrate", "up"], ["check"], ["config"]):
        environment = {"TASKWELL_GRPC_ADDRESS": "0.0.0.0:50051", "TASKWELL_LOG_FORMAT": "console"}
        answer = run(*command, folder=tmp_path, **environment)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.startswith("taskwell: TASKWELL_GRPC_ADDRESS: other machines can reach 0.0.0.0:50051")


def test_an_unknown_flag_is_refused(tmp_path: Path) -> None:
    answer = run("config", "--grpc-adress", "127.0.0.1:1", folder=tmp_path)
    assert answer.returncode == 2
    assert "--grpc-adress" in answer.stderr


def test_config_prints_the_settings_with_secrets_masked(tmp_path: Path) -> None:
    url = "postgresql://user:s3cret@db.example:6543/tasks?sslmode=require"
    answer = run("config", "--database-url", url, "--migrate", folder=tmp_path)
    assert answer.returncode == 0
    assert "TASKWELL_GRPC_ADDRESS=127.0.0.1:50051\n" in answer.stdout
    assert "TASKWELL_MIGRATE=true\n" in answer.stdout
    assert "host=db.example" in answer.stdout
    assert "s3cret" not in answer.stdout + answer.stderr


def test_check_reports_a_missing_schema_and_then_ok(tmp_path: Path) -> None:
    answer = run("check", folder=tmp_path)
    assert answer.returncode == 1
    assert "run 'taskwell migrate up'" in answer.stderr
    assert run("migrate", "up", folder=tmp_path).returncode == 0
    answer = run("check", folder=tmp_path)
    assert (answer.returncode, answer.stdout[:3], answer.stderr) == (0, "ok:", "")


def test_check_waits_until_the_database_is_migrated(tmp_path: Path) -> None:
    assert run("check", "--wait", "0.1", folder=tmp_path).returncode == 1
    with ThreadPoolExecutor() as others:
        waiting = others.submit(run, "check", "--wait", str(TIMEOUT), folder=tmp_path)
        assert run("migrate", "up", folder=tmp_path).returncode == 0
        answer = waiting.result()
    assert (answer.returncode, answer.stdout[:3], answer.stderr) == (0, "ok:", "")


def test_migrate_goes_up_and_down_and_prints_the_revision(tmp_path: Path, postgres: str, database_kind: str) -> None:
    with fresh_database(postgres) as url:
        arguments = ["--database-url", url] if database_kind == "postgresql" else []
        last = f"at {REVISIONS[-1]}"
        downs = [("down", f"at {revision}") for revision in reversed(REVISIONS[:-1])]
        steps = [("current", "none"), ("up", last), ("current", last), *downs, ("down", "none"), ("current", "none")]
        for direction, where in steps:
            answer = run("migrate", direction, *arguments, folder=tmp_path)
            assert answer.returncode == 0, answer.stderr
            assert where in answer.stdout


def test_migrate_to_a_revision_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    answer = run("migrate", "up", "29990101", folder=tmp_path)
    assert answer.returncode == 1
    assert "no such revision" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    url = "postgresql://user:s3cret@127.0.0.1:1/tasks"
    for command in (["check"], ["migrate", "up"], ["serve", "--database-start-timeout", "0.01"]):
        answer = run(*command, "--database-url", url, folder=tmp_path)
        assert answer.returncode == 1
        assert "cannot reach the database" in answer.stderr
        assert "127.0.0.1" in answer.stderr
        assert "s3cret" not in answer.stderr
        assert "Traceback" not in answer.stderr


# Containers run it every few seconds: each of these would take a tenth of a second or more.
LARGE = {"alembic", "cryptography", "dotenv", "google.protobuf", "pydantic", "sqlalchemy", "structlog", "uvloop"}


def test_health_takes_addresses_from_flags_the_environment_and_the_file_and_imports_little(folder: Path) -> None:
    with serving(folder, ["--metrics-address", "127.0.0.1:0"]) as server:
        wrong, good = "127.0.0.1:1", server.metrics_address
        (folder / ".env").write_text(f"TASKWELL_GRPC_ADDRESS={server.address}\nTASKWELL_METRICS_ADDRESS={wrong}\n")
        assert run("health", folder=folder).stdout == "UNAVAILABLE\n"
        answer = run("health", f"--metrics-address={good}", folder=folder, TASKWELL_METRICS_ADDRESS=wrong)
        assert (answer.returncode, answer.stdout) == (0, "SERVING\n")
        assert run("health", folder=folder, taskwell_metrics_address=f"{good}\n").stdout == "SERVING\n"
        (folder / ".env").unlink()
        for flag, address, without in (
            ("--metrics-address", good, {*LARGE, "asyncio", "grpc"}),
            ("--grpc-address", server.address, {*LARGE, "grpc_health.v1"}),
        ):
            status, *imported = imported_by(folder, "health", flag, address).stdout.split()
            assert status == "SERVING"
            assert without & {*imported} == set()


def imported_by(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the script `taskwell`, which prints the modules that were imported after its output."""
    program = f"import sys, taskwell_cli\nsys.argv = {['taskwell', *arguments]!r}\ntaskwell_cli.main()\n"
    return subprocess.run(
        [sys.executable, "-c", f"{program}print(*sys.modules)"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )


def test_health_names_the_reasons_of_a_server_that_is_not_ready(folder: Path) -> None:
    issuer: dict[str, Any] = {
        "TASKWELL_AUTH": "jwt",
        "TASKWELL_JWT_ISSUER": "https://issuer.example",
        "TASKWELL_JWT_AUDIENCE": "tasks",
    }
    jwks = {**issuer, "TASKWELL_JWT_JWKS": "http://127.0.0.1:1/jwks"}
    with serving(folder, ["--metrics-address", "127.0.0.1:0"], **jwks) as server:
        by_metrics = ("--metrics-address", server.metrics_address)
        until(lambda: "refused" in run("health", *by_metrics, folder=folder).stdout)
        answer = run("health", *by_metrics, folder=folder)
        assert answer.returncode == 1
        assert answer.stdout == (
            "NOT_SERVING\nthe keys that verify tokens have not been read: http://127.0.0.1:1/jwks: the issuer does not "
            "answer with its keys: <urlopen error [Errno 111] Connection refused>\n"
        )
        by_grpc = run("health", "--grpc-address", server.address, folder=folder)
        assert (by_grpc.returncode, by_grpc.stdout) == (1, "NOT_SERVING\n")


def test_health_exits_with_0_while_the_server_is_serving_else_1(folder: Path) -> None:
    with serving(folder) as server:
        answer = run("health", "--grpc-address", server.address, folder=folder)
        assert (answer.returncode, answer.stdout) == (0, "SERVING\n")
        server.end()
        answer = run("health", "--grpc-address", server.address, folder=folder)
        assert (answer.returncode, answer.stdout) == (1, "UNAVAILABLE\n")
        answer = run("health", "--grpc-address", "nowhere", folder=folder)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert answer.stderr.startswith("taskwell: must be host:port")
        answer = run("health", "--grpc-adress", server.address, folder=folder)
        assert (answer.returncode, answer.stdout) == (2, "")
        assert "--grpc-adress" in answer.stderr
