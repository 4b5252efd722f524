"""The sessions of every page, run in bash and in zsh, print what the page says."""

import http.cookiejar
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, commands_of, sections
from tests.docs.sessions import (
    SHELLS,
    assert_prints_what_is_written,
    in_shell,
    session_of,
    shape_of,
    with_certificates,
)
from tests.running import new_user, running_service, settings_for

TOKENS = {
    "auth": "jwt",
    "jwt_secret": "what both of them know and nobody else",
    "jwt_issuer": "https://auth.example.com",
    "jwt_audience": "https://tasks.example.com",
}
DEBUGGING = "docs/guide/debugging.md"

SESSIONS: dict[tuple[str, str], dict[str, str]] = {
    ("README.md", "A session"): {},
    ("clients/python/README.md", "The command line"): {},
    ("docs/guide/cli.md", "The tasks of a user"): {},
    (DEBUGGING, "Look around"): {},
    (DEBUGGING, "Read an error"): {},
    (DEBUGGING, "Without reflection"): {"reflection": "off"},
    (DEBUGGING, "With a token"): TOKENS,
    (DEBUGGING, "buf curl"): {},
    ("docs/guide/grpc.md", ""): {},
    ("docs/guide/grpc.md", "Every method once"): {},
    ("docs/guide/rest.md", "A session"): {},
    ("docs/operations/authentication.md", "Users from signed tokens"): TOKENS,
    ("examples/python/README.md", ""): {},
}
"""The sections with sessions, and the settings of the service that each of them needs."""

ON_A_TERMINAL = {("clients/python/README.md", "The command line"), ("docs/guide/cli.md", "The tasks of a user")}
"""The sections whose commands print something else for programs."""

WITH_CERTIFICATES = [("docs/operations/tls.md", "Try it"), (DEBUGGING, "Over TLS")]

ELSEWHERE = {
    (DEBUGGING, "grpcui"),  # below
    (DEBUGGING, "ghz"),  # below
    ("docs/guide/go.md", ""),  # tests/clients/test_go.py
}

in_both_shells = pytest.mark.parametrize("shell", SHELLS)


def test_every_session_is_run() -> None:
    with_sessions = {
        (page, section) for page in PAGES for section, text in sections(page).items() if blocks(text, "console")
    }
    assert with_sessions == {*SESSIONS, *WITH_CERTIFICATES, *ELSEWHERE}


@in_both_shells
@pytest.mark.parametrize("where", SESSIONS, ids=": ".join)
def test_a_session_prints_what_is_written(where: tuple[str, str], shell: str, tmp_path: Path) -> None:
    (tmp_path / "events.py").symlink_to(ROOT / "examples" / "python" / "events.py")
    terminal = where in ON_A_TERMINAL
    assert_prints_what_is_written(session_of(*where), tmp_path, SESSIONS[where], shell, terminal=terminal)


@in_both_shells
@pytest.mark.parametrize("where", WITH_CERTIFICATES, ids=": ".join)
def test_a_session_with_certificates_prints_what_is_written(where: tuple[str, str], shell: str, tmp_path: Path) -> None:
    session = session_of(*where)
    assert_prints_what_is_written(session, tmp_path, with_certificates(tmp_path, shell), shell)


def test_the_error_of_grpcurl_without_plaintext_is_that_of_the_table(sqlite_url: str) -> None:
    session_of(DEBUGGING, "Over TLS")
    with running_service(settings_for(sqlite_url)) as address:
        ran = subprocess.run(["grpcurl", address, "list"], capture_output=True, text=True, check=False)
    [said] = re.findall(r"^\| `(first record .*?)` \|", PAGES[DEBUGGING], flags=re.MULTILINE)
    assert said in ran.stderr


@in_both_shells
def test_ghz_prints_what_is_written(shell: str, tmp_path: Path) -> None:
    session = session_of(DEBUGGING, "ghz")
    [command] = commands_of(session)
    with running_service(settings_for(f"sqlite:///{tmp_path / 'taskwell.db'}")) as address:
        script = in_shell(shell, command.replace("127.0.0.1:50051", address))
        ran = subprocess.run(script, capture_output=True, text=True, check=False)

    def without_figures(text: str) -> str:
        return re.sub(r"\s[\d.]+(?= |\n)|\b[mµn]?s\b|\[\d+\]|∎+", "", text)

    assert shape_of(without_figures(session.partition("\n")[2])) == shape_of(without_figures(ran.stdout))
    assert "[OK] 200 responses" in shape_of(ran.stdout)


def test_grpcui_has_forms_that_work(tmp_path: Path) -> None:
    [command] = commands_of(session_of(DEBUGGING, "grpcui"))
    with running_service(settings_for(f"sqlite:///{tmp_path / 'taskwell.db'}")) as address:
        command = command.replace("127.0.0.1:50051", address).replace("-port 8080", "-port 0")
        with subprocess.Popen(["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout
                [_, url] = process.stdout.readline().split(" at ")
                assert_forms_work(url.strip())
            finally:
                process.kill()


def assert_forms_work(url: str) -> None:
    """Load the page of grpcui and submit the form of GetTask, as its script does."""
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    page = browser.open(url).read().decode()
    assert "taskwell.v1.TaskService" in page
    assert '{"name": "x-user-id", "value": "alice"}' in page
    call = {"metadata": [{"name": "x-user-id", "value": new_user()}], "data": [{"id": "7"}]}
    headers = {"Content-Type": "application/json", "x-grpcui-csrf-token": str(next(iter(cookies)).value)}
    request = urllib.request.Request(f"{url}invoke/taskwell.v1.TaskService.GetTask", json.dumps(call).encode(), headers)
    response = json.load(browser.open(request))
    assert response["error"]["name"] == "InvalidArgument"
    assert "grpc-status-details-bin" in [trailer["name"] for trailer in response["trailers"]]


@in_both_shells
def test_the_certificates_are_valid_to_strict_verifiers(shell: str, tmp_path: Path) -> None:
    """Python 3.13 and Rust's webpki are stricter than OpenSSL's defaults (RFC 5280)."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: the certificates of docs/operations/tls.md were not made")
    with_certificates(tmp_path, shell)
    for name in ("server", "gateway", "other"):
        command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", "ca.pem", f"{name}.pem"]
        verified = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert verified.returncode == 0, verified.stderr
        shown = subprocess.run(
            ["openssl", "x509", "-in", f"{name}.pem", "-noout", "-ext", "basicConstraints"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert "CA:FALSE" in shown.stdout  # webpki refuses a CA's certificate as that of a server or a client


def test_shapes_differ_where_texts_do() -> None:
    assert shape_of('{"title": "a"}') != shape_of('{"title": "b"}')
