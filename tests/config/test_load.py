"""Each command imports only the libraries that it needs: a health probe runs every few seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

ALL = {
    "alembic",
    "cryptography",
    "grpc",
    "jwt",
    "prometheus_client",
    "psycopg",
    "sqlalchemy",
    "sqlalchemy.orm",
    "uvloop",
}


@pytest.mark.parametrize(
    ("modules", "needed"),
    [
        ("service.__main__, service.server.supervisor", set()),
        ("service.config.load", set()),
        ("service.server.health_check", set()),
        (
            "service.config.load, service.server.startup, service.server.app",
            {"grpc", "psycopg", "sqlalchemy"},
        ),
    ],
    ids=["supervisor", "config", "health", "serve"],
)
def test_a_command_imports_only_the_libraries_it_needs(tmp_path: Path, modules: str, needed: set[str]) -> None:
    program = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert needed == ALL & set(loaded.stdout.split())
