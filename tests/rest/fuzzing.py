"""Sends REST what schemathesis makes of the OpenAPI document, good and bad, and has all its checks look on.

    python -m tests.rest.fuzzing [EXAMPLES]      (thousands of requests, on SQLite and on PostgreSQL)

The callers are two users with tokens: that way the document's credentials are checked as well, and whether one of them
sees what is the other's. Exit status 1 if anything is found; what schemathesis says then has a curl command for it.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from service.auth.dev_tokens import mint_token
from service.log import configure_log
from service.server.authentication import expected_of
from tests.postgres import fresh_database, running_postgres
from tests.running import new_user, running_addresses, settings_for

ROOT = Path(__file__).resolve().parents[2]
CONFIG = Path(__file__).with_name("schemathesis.toml")
EXAMPLES = 300
SECRET = "what both of them know and nobody else"
_TOKENS = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}
_AN_HOUR = 3600  # s


def fuzz(database_url: str, examples: int, *phases: str, seed: int | None = None) -> tuple[int, str]:
    """How many requests were made, and what schemathesis says, empty if it found nothing.

    `examples` is how many each phase makes of each operation, at most; no `phases` are all, no `seed` is chance.
    """
    settings = settings_for(database_url, rest_address="127.0.0.1:0", migrate=True, **_TOKENS)
    with running_addresses(settings) as addresses, tempfile.TemporaryDirectory() as folder:
        users = [
            {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
            for name in ("one", "another")
            for token in [mint_token(SECRET, expected_of(settings), new_user(), "", int(time.time()), _AN_HOUR)]
        ]
        callers = Path(folder, "callers.json")
        callers.write_text(json.dumps({"auth": users}))
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "--no-color", "--config-file", CONFIG),
                *("run", f"http://{addresses.rest}/openapi.json", "--auth-wfc", callers, "--auth-wfc-user", "one"),
                *("--max-examples", str(examples), *(["--phases", ",".join(phases)] if phases else [])),
                *(["--seed", str(seed)] if seed is not None else []),
            ],
            cwd=folder,  # where it leaves its notes
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    made = re.search(r"([\d,]+) generated", ran.stdout)
    return int(made[1].replace(",", "")) if made else 0, ran.stdout if ran.returncode else ""


def main() -> int:
    examples = int(sys.argv[1]) if len(sys.argv) > 1 else EXAMPLES
    configure_log("error", "json")
    found = False
    with (
        tempfile.TemporaryDirectory() as folder,
        running_postgres() as postgres,
        fresh_database(postgres) as postgresql_url,
    ):
        for name, url in (("SQLite", f"sqlite:///{folder}/taskwell.db"), ("PostgreSQL", postgresql_url)):
            made, said = fuzz(url, examples)
            print(said or f"{name}: {made} requests, nothing found")
            found |= bool(said)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
