"""Sessions of a document, commands and what they print, run against a real service."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.running import running_doors, settings_for

ROOT = Path(__file__).parents[2]
SECRET = "what both of them know and nobody else"
TOKENS = {"auth": "jwt", "jwt_secret": SECRET, "jwt_issuer": "https://issuer.example", "jwt_audience": "taskwell"}


def blocks(document: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", document, flags=re.DOTALL | re.MULTILINE)


def commands_of(session: str) -> list[str]:
    return re.findall(r"^\$ (.*)", session.replace("\\\n", ""), flags=re.MULTILINE)


def with_certificates(readme: str, folder: Path) -> dict[str, str]:
    """Make the README's certificates in a folder. Answers the settings of the service that it starts with them."""
    [making] = [block for block in blocks(readme, "console") if "openssl req" in block]
    made = subprocess.run(["bash", "-ec", "\n".join(commands_of(making))], cwd=folder, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    [settings] = re.findall(r"^\$ export (TASKWELL_TLS_CERT=.*)\n\$ export (.*)", readme, flags=re.MULTILINE)
    values = dict(pair.split("=") for line in settings for pair in line.split())
    named = {name.removeprefix("TASKWELL_").lower(): value for name, value in values.items()}
    return {name: str(folder / value) if value.endswith(".pem") else value for name, value in named.items()}


def assert_goes_as_written(session: str, folder: Path, settings: dict[str, str]) -> None:
    """Run the commands of a session against a server with these settings, and compare what they print."""
    commands = commands_of(session)
    assert commands
    for name, place in {".venv": Path(sys.prefix), "generated": ROOT / "generated"}.items():
        if not (folder / name).exists():
            (folder / name).symlink_to(place)
    url = f"sqlite:///{folder / 'taskwell.db'}"
    with running_doors(settings_for(url, rest_address="127.0.0.1:0", **settings)) as doors:
        places = {"127.0.0.1:50051": doors.grpc, "127.0.0.1:8080": doors.rest}
        done = subprocess.run(
            ["bash", "-c", _replaced("\n".join(commands), places)],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "TASKWELL_CLIENT_TARGET": doors.grpc,
                **{f"TASKWELL_{name.upper()}": value for name, value in settings.items()},
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
    written = re.sub(r"^\$ .*\n", "", session.replace("\\\n", ""), flags=re.MULTILINE)
    said = _replaced(done.stdout, {found: place for place, found in places.items()})
    # curl ends no line where the answer does not.
    assert shape_of(written).replace("} ", "}") == shape_of(said).replace("} ", "}")


def _replaced(text: str, places: dict[str, str]) -> str:
    for place, other in places.items():
        text = text.replace(place, other)
    return text


def shape_of(text: str) -> str:
    """The text without what differs from run to run: ids, times, and how tabs are drawn."""
    text = re.sub(r"[0-9a-f-]{36}", "ID", text)
    text = re.sub(r"\d{4}-\d\d-\d\d(T[0-9:.]+Z| \d\d:\d\d)", "TIME", text)
    text = re.sub(r"\b\d{10}\b", "TIME", text)
    return re.sub(r"\s+", " ", text).strip()
