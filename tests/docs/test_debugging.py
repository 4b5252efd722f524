"""docs/guide/debugging.md stays true: its commands print what it says, where their tools are installed."""

import http.cookiejar
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.docs.sessions import ROOT, TOKENS, assert_goes_as_written, blocks, commands_of, shape_of, with_certificates
from tests.running import new_user, running_service, settings_for

README = (ROOT / "README.md").read_text()
DOCUMENT = (ROOT / "docs" / "guide" / "debugging.md").read_text()
SECTIONS = {each.partition("\n")[0]: each for each in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)[1:]}

SETTINGS: dict[str, dict[str, str]] = {
    "Look around": {},
    "Read an error": {},
    "Where the service does not describe itself": {"reflection": "off"},
    "With a token": {**TOKENS, "jwt_issuer": "https://auth.example.com", "jwt_audience": "https://tasks.example.com"},
    "buf curl": {},
}
"""The sections with nothing else but sessions, and the service that each is about."""


def session_of(section: str) -> str:
    session = "".join(blocks(SECTIONS[section], "console"))
    for tool in ("grpcurl", "grpcui", "ghz", "openssl"):
        used = any(re.search(rf"(^|[|(] ?){tool} ", command) for command in commands_of(session))
        if used and not shutil.which(tool):
            pytest.skip(f"{tool} is not installed: '{section}' of docs/guide/debugging.md was not run")
    return session


def test_every_session_is_run() -> None:
    with_sessions = {section for section, text in SECTIONS.items() if blocks(text, "console")}
    assert {*SETTINGS, "Over TLS", "grpcui", "ghz"} == with_sessions


@pytest.mark.parametrize("section", SETTINGS)
def test_a_section_goes_as_it_is_written(section: str, tmp_path: Path) -> None:
    assert_goes_as_written(session_of(section), tmp_path, SETTINGS[section])


def test_the_section_on_tls_goes_as_it_is_written(tmp_path: Path) -> None:
    assert_goes_as_written(session_of("Over TLS"), tmp_path, with_certificates(README, tmp_path))


def test_what_grpcurl_says_where_it_is_wrong_about_tls(sqlite_url: str) -> None:
    session_of("Over TLS")
    with running_service(settings_for(sqlite_url)) as address:
        ran = subprocess.run(["grpcurl", address, "list"], capture_output=True, text=True, check=False)
    [said] = re.findall(r"^\| `(first record .*?)` \|", DOCUMENT, flags=re.MULTILINE)
    assert said in ran.stderr


def test_ghz_says_what_is_written(tmp_path: Path) -> None:
    session = session_of("ghz")
    [command] = commands_of(session)
    with running_service(settings_for(f"sqlite:///{tmp_path / 'taskwell.db'}")) as address:
        ran = subprocess.run(
            ["bash", "-c", command.replace("127.0.0.1:50051", address)], capture_output=True, text=True, check=False
        )

    def without_figures(text: str) -> str:
        return re.sub(r"\s[\d.]+(?= |\n)|\b[mµn]?s\b|\[\d+\]|∎+", "", text)

    assert shape_of(without_figures(session.partition("\n")[2])) == shape_of(without_figures(ran.stdout))
    assert "[OK] 200 responses" in shape_of(ran.stdout)


def test_grpcui_has_forms_that_work(tmp_path: Path) -> None:
    [command] = commands_of(session_of("grpcui"))
    with running_service(settings_for(f"sqlite:///{tmp_path / 'taskwell.db'}")) as address:
        command = command.replace("127.0.0.1:50051", address).replace("-port 8080", "-port 0")
        with subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                [_, url] = process.stdout.readline().split(" at ")
                assert_usable(url.strip())
            finally:
                process.kill()


def assert_usable(url: str) -> None:
    """Load the page and fill in the form of GetTask, as its script does."""
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    page = browser.open(url).read().decode()
    assert "taskwell.v1.TaskService" in page
    assert '{"name": "x-user-id", "value": "alice"}' in page
    call = {"metadata": [{"name": "x-user-id", "value": new_user()}], "data": [{"id": "7"}]}
    headers = {"Content-Type": "application/json", "x-grpcui-csrf-token": str(next(iter(cookies)).value)}
    request = urllib.request.Request(f"{url}invoke/taskwell.v1.TaskService.GetTask", json.dumps(call).encode(), headers)
    answer = json.load(browser.open(request))
    assert answer["error"]["name"] == "InvalidArgument"
    assert "grpc-status-details-bin" in [trailer["name"] for trailer in answer["trailers"]]
