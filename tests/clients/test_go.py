"""The Go client, clients/go, against the real service; programs that use it: the example, and those of the documents.

What the module does is tested in Go, beside it; here services are started for those tests.
"""

import fcntl
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from service.auth.claims import Expected
from service.auth.dev_tokens import mint_token
from tests.running import Api, new_user, running_service, settings_for
from tests.tls.issuing import GATEWAY, HOSTS, Authority, Files

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "clients" / "go"
EXAMPLE = ROOT / "examples" / "go"
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "guide" / "go.md").read_text()
SECRET = "what both of them know and nobody else"

pytestmark = pytest.mark.timeout(600)  # s; the first build downloads and compiles gRPC


@pytest.fixture(scope="module")
def go() -> str:
    found = shutil.which("go")
    if found is None:
        pytest.skip("Go is not installed: the Go module and its example were not tested")
    return found


@pytest.fixture(scope="module")
def one_at_a_time(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to lock, because each of several builds at the same time would compile gRPC."""
    return tmp_path_factory.getbasetemp().parent / "go.lock"


def run(*command: str, cwd: Path, lock: Path, **environment: str) -> str:
    """Run a command that must succeed. Returns its standard output: on standard error Go names what it downloads."""
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        ran = subprocess.run(
            command,
            cwd=cwd,
            env={**os.environ, "GOWORK": "off", **environment},  # a workspace around this checkout has no say
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@contextmanager
def secure_service(database_url: str, folder: Path) -> Iterator[dict[str, str]]:
    """Run a service that requires a certificate and a token. Yields the environment of the Go tests."""
    authority = Authority()
    files = Files(folder, authority.issue(*HOSTS), authority.pem)
    gateway = authority.issue(GATEWAY)
    shown = {"CA": authority.pem, "CERT": gateway.chain, "KEY": gateway.key}
    for name, content in shown.items():
        (folder / name).write_bytes(content)
    expected = Expected("https://issuer.example", "taskwell")
    token = mint_token(SECRET, expected, new_user(), "", int(time.time()), 600)
    settings = settings_for(
        database_url,
        **files.settings,
        tls_client_names=GATEWAY,
        auth="jwt",
        jwt_secret=SECRET,
        jwt_issuer=expected.issuer,
        jwt_audience=expected.audience,
    )
    with running_service(settings) as address:
        yield {
            "TASKWELL_TEST_SECURE_ADDRESS": address,
            "TASKWELL_TEST_TOKEN": token,
            **{f"TASKWELL_TEST_{name}": str(folder / name) for name in shown},
        }


def test_the_go_module_passes_its_tests(
    go: str, one_at_a_time: Path, sqlite_url: str, postgresql_url: str, tmp_path: Path
) -> None:
    with ExitStack() as services:
        addresses = [
            services.enter_context(running_service(settings_for(database_url)))
            for database_url in (sqlite_url, postgresql_url)
        ]
        environment = services.enter_context(secure_service(sqlite_url, tmp_path))
        environment["TASKWELL_TEST_ADDRESSES"] = ",".join(addresses)
        # Most of them wait, so more of them than there are cores may do so at once.
        tests = ("test", "-count=1", "-parallel=16", "-v", ".")
        printed = run(go, *tests, cwd=MODULE, lock=one_at_a_time, **environment)
    assert "--- SKIP" not in printed
    ran = set(re.findall(r"--- PASS: TestTheServiceAndAWalk/(\S+)", printed))
    assert ran == set(addresses)
    assert "--- PASS: TestTheServiceThatAsksForACertificateAndAToken" in printed


@pytest.mark.parametrize("module", [MODULE, EXAMPLE], ids=["module", "example"])
def test_go_vet_and_gofmt_find_nothing(go: str, one_at_a_time: Path, module: Path) -> None:
    run(go, "vet", "./...", cwd=module, lock=one_at_a_time)  # fails if it finds something
    written = [str(path) for path in module.rglob("*.go")]
    assert run(str(Path(go).with_name("gofmt")), "-l", *written, cwd=module, lock=one_at_a_time) == ""


def test_the_go_example_walks_all_tasks_of_a_user(go: str, one_at_a_time: Path, sqlite_url: str) -> None:
    with running_service(settings_for(sqlite_url)) as address, grpc.insecure_channel(address) as channel:
        api = Api(channel)
        tasks = [api.create(f"Task {number}") for number in range(3)]
        api.complete(tasks[0].id)
        command = ("run", ".", "-target", address, "-user", api.user)
        printed = run(go, *command, cwd=EXAMPLE, lock=one_at_a_time)
    assert [
        f"{tasks[2].id} incomplete Task 2",
        f"{tasks[1].id} incomplete Task 1",
        f"{tasks[0].id} complete Task 0",
        "2 incomplete",
        "1 complete",
    ] == printed.splitlines()


def test_the_programs_of_the_documents_run_in_an_empty_folder(go: str, one_at_a_time: Path, tmp_path: Path) -> None:
    [program] = re.findall(r"^```go\n(.*?)^```", GUIDE, flags=re.DOTALL | re.MULTILINE)
    [session] = re.findall(r"^```console\n(\$ go mod init .*?)^```", GUIDE, flags=re.DOTALL | re.MULTILINE)
    commands = "\n".join(re.findall(r"^\$ (.*)", session, flags=re.MULTILINE)).replace("PATH/TO", str(ROOT))
    [lines] = re.findall(r"^```go\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    # A database of its own, because the programs list all tasks of alice, and other tests create some.
    with running_service(settings_for(f"sqlite:///{tmp_path / 'taskwell.db'}")) as address:
        (tmp_path / "main.go").write_text(program.replace("127.0.0.1:50051", address))
        printed = run("bash", "-ec", commands, cwd=tmp_path, lock=one_at_a_time)
        (tmp_path / "main.go").write_text(as_program(lines, program).replace("127.0.0.1:50051", address))
        printed_by_lines = run(go, "run", ".", cwd=tmp_path, lock=one_at_a_time)
    assert re.search(r"^\S{36} Call Bob$", printed, flags=re.MULTILINE), printed
    assert printed_by_lines.endswith("Call Bob <nil>\n" * 2), printed_by_lines


def as_program(lines: str, program: str) -> str:
    """A program of these lines, with the imports of another program."""
    head, _, _ = program.replace('\t"log"\n', "").partition("func main()")
    return f"{head}func main() {{\nctx := context.Background()\n{lines}_ = err\n}}\n"
