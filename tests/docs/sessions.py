"""Runs sessions of a page, commands and their output, in a shell and against a real service."""

import os
import pty
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.docs.pages import ROOT, blocks, commands_of, sections
from tests.running import running_addresses, settings_for

SHELLS = {"bash": ("bash", "--norc", "-c"), "zsh": ("zsh", "-f", "-c")}
"""The shells that readers paste commands into (zsh on macOS), without the start-up files of whoever runs the tests."""

_TOOLS = ("curl", "ghz", "grpcui", "grpcurl", "openssl")


def in_shell(shell: str, script: str) -> list[str]:
    """The command that runs a script in a shell. Skips the test where the shell is missing."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed: the sessions of the documents were not run in it")
    return [*SHELLS[shell], script]


def session_of(page: str, section: str) -> str:
    """The console blocks of a section. Skips the test where a tool is missing that the commands need."""
    session = "".join(blocks(sections(page)[section], "console"))
    commands = commands_of(session)
    assert commands
    for tool in _TOOLS:
        used = any(re.search(rf"(^|[|(] ?){tool} ", command) for command in commands)
        if used and not shutil.which(tool):
            pytest.skip(f"{tool} is not installed: '{section}' of {page} was not run")
    return session


def with_certificates(folder: Path, shell: str) -> dict[str, str]:
    """Make the certificates of docs/operations/tls.md in a folder. Returns the settings to serve with them."""
    making, serving = blocks(sections("docs/operations/tls.md")["Try it"], "sh")
    made = subprocess.run(in_shell(shell, f"set -e\n{making}"), cwd=folder, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    values = dict(re.findall(r"TASKWELL_(\S+?)=(\S+)", serving))
    return {name.lower(): str(folder / value) if value.endswith(".pem") else value for name, value in values.items()}


def assert_prints_what_is_written(
    session: str, folder: Path, settings: dict[str, str], shell: str, *, terminal: bool = False
) -> None:
    """Run the commands of a session against a service with these settings, and compare the output."""
    for name, place in {".venv": Path(sys.prefix), "generated": ROOT / "generated"}.items():
        if not (folder / name).exists():
            (folder / name).symlink_to(place)
    url = f"sqlite:///{folder / 'taskwell.db'}"
    with running_addresses(settings_for(url, rest_address="127.0.0.1:0", **settings)) as addresses:
        places = {"127.0.0.1:50051": addresses.grpc, "127.0.0.1:8080": addresses.rest}
        printed = (_on_terminal if terminal else _piped)(
            in_shell(shell, _replaced("\n".join(commands_of(session)), places)),
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
                "TASKWELL_CLIENT_TARGET": addresses.grpc,
                "XDG_CONFIG_HOME": "/nowhere",  # whoever runs the tests may have profiles
                **{f"TASKWELL_{name.upper()}": value for name, value in settings.items()},
            },
        )
    written = re.sub(r"^\$ .*\n", "", session.replace("\\\n", ""), flags=re.MULTILINE)
    printed = _replaced(printed, {found: place for place, found in places.items()})
    # curl writes no newline behind a body.
    assert shape_of(written).replace("} ", "}") == shape_of(printed).replace("} ", "}"), f"printed:\n{printed}"


def _piped(command: list[str], **options: Any) -> str:
    """Run a command. Returns what it prints."""
    options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done: subprocess.CompletedProcess[str] = subprocess.run(command, text=True, check=False, **options)
    return done.stdout


def _on_terminal(command: list[str], **options: Any) -> str:
    """Run a command on a terminal of 80 columns. Returns what it prints, without bold type."""
    ours, theirs = pty.openpty()
    options["env"] = {**options["env"], "COLUMNS": "80"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **options):
        os.close(theirs)
        printed = b""
        with suppress(OSError):  # which is how a pseudo-terminal ends
            while part := os.read(ours, 65536):
                printed += part
    os.close(ours)
    return re.sub(r"\x1b\[\d+m", "", printed.decode())


def _replaced(text: str, places: dict[str, str]) -> str:
    for place, other in places.items():
        text = text.replace(place, other)
    return text


def shape_of(text: str) -> str:
    """The text without everything that differs from run to run: ids, times, and white space."""
    text = re.sub(r"[0-9a-f-]{36}", "ID", text)
    text = re.sub(r"\b[0-9a-f]{8}\b", "SHORT", text)
    text = re.sub(r"\d{4}-\d\d-\d\d(T[0-9:.]+Z| \d\d:\d\d)", "TIME", text)
    text = re.sub(r"\b\d{10}\b", "TIME", text)
    return re.sub(r"\s+", " ", text).strip()
