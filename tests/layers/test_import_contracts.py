"""The import contracts in pyproject.toml hold, and each refuses what it forbids."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_import_contracts_hold() -> None:
    found = lint(ROOT)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("tasks/coalescer", "sqlalchemy"),
        ("tasks/a_new_module", "psycopg"),
        ("tasks/a_new_module", "grpc"),
        ("config/a_new_module", "alembic"),
        ("metrics/a_new_module", "starlette"),
        ("server/a_new_module", "jwt"),
        ("server/a_new_module", "sqlalchemy"),
        ("server/a_new_module", "prometheus_client"),
        ("server/supervisor", "grpc"),
        ("db/a_new_module", "grpc"),
        ("auth/a_new_module", "service.rpc.policy"),
        ("rest/a_new_module", "service.tasks.methods"),
        ("rest/a_new_module", "taskwell.v1"),
        ("rpc/a_new_module", "uvicorn"),
        ("errors", "service.tasks.etags"),
        ("a_new_module", "taskwell_client"),
        ("a_new_module", "json"),
    ],
)
def test_an_import_against_a_contract_is_refused(tmp_path: Path, module: str, imported: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for package in ("service", "migrations"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("assets", "__pycache__"))
    with (tmp_path / "service" / f"{module}.py").open("a") as file:
        file.write(f"\nimport {imported}\n")
    found = lint(tmp_path)
    assert found.returncode == 1, found.stdout
    assert "BROKEN" in found.stdout or "a_new_module" in found.stdout, found.stdout
