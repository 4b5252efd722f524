"""Builds the image of deploy/Dockerfile without a registry, and runs it: it must serve, drain and check its health.

    make image-test

The base is a Debian of debootstrap, where a release takes the one that the Dockerfile names. Both have Python 3.11. The
container is process 1 of its namespace, a user without a name, on a read-only root with one tmpfs, in a network of its
own. What is missing to do this is named in one line, with exit status 0.
"""

import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import psycopg
from taskwell.v1 import tasks_pb2

from service.server.health_check import probe
from tests.deploy.container import Container, Image
from tests.postgres import fresh_database, running_postgres
from tests.proxy import proxied
from tests.running import Api
from tests.server.starting import refuses
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "image"
BASE, IMAGE = "localhost/taskwell-base", "localhost/taskwell"
NEEDED = ("apt-cache", "buildah", "debootstrap", "ip", "nsenter", "setpriv", "unshare")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
ADDRESS = "127.0.0.1:50051"
TRUSTED = {"TASKWELL_TRUST_NETWORK": "true"}
STARTS = 5


def main() -> int:
    if missing := missing_tools():
        print(f"image-test: skipped, because this is missing: {', '.join(missing)}")
        return 0
    if sys.argv[1:] == ["--run"]:
        run()
        return 0
    build()
    # In a network of its own the server can listen where the image says, and nobody else can reach it.
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable, "-m", "tests.deploy.image", "--run"]
    return subprocess.run(["unshare", "--net", *inside], check=False).returncode


def missing_tools() -> list[str]:
    """What this machine lacks."""
    tools = [tool for tool in NEEDED if not shutil.which(tool)]
    return [*(["root"] if os.geteuid() else []), *tools]


def buildah(*arguments: str | Path) -> str:
    stores = ("--storage-driver", "vfs", "--root", FOLDER / "storage", "--runroot", FOLDER / "run")
    ran = subprocess.run(["buildah", *stores, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout.strip()


def build() -> None:
    """Build the image on a base that is made once, and print its size."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if BASE not in sizes():
        make_base()
    revision = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=ROOT, text=True).strip()
    started = time.monotonic()
    buildah(
        *("bud", "--isolation", "chroot", "--format", "docker", "--file", "deploy/Dockerfile", "--tag", IMAGE),
        *("--build-arg", f"BASE={BASE}", "--build-arg", f"REVISION={revision}", "."),
    )
    seconds, size = time.monotonic() - started, sizes()
    print(f"built in {seconds:.0f} s: {size[IMAGE] - size[BASE]:.0f} MB on a base of {size[BASE]:.0f} MB, uncompressed")


def sizes() -> dict[str, float]:
    """The images that there are, and the size of each (MB)."""
    lines = buildah("images", "--format", "{{.Name}} {{.Size}}").splitlines()
    return {name: float(size) for name, size, unit in map(str.split, lines) if unit == "MB"}


def make_base() -> None:
    """Make an image of Debian with Python, from the mirror that apt uses."""
    policy = subprocess.check_output(["apt-cache", "policy", "python3"], text=True)
    mirror = re.findall(r"https?://\S+", policy)[0]
    root = FOLDER / "debian"
    shutil.rmtree(root, ignore_errors=True)
    packages = "--include=python3,python3-pip,python3-venv"
    command: list[str | Path] = ["debootstrap", "--variant=minbase", packages, "bookworm", root, mirror]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    # The registry's certificate may be signed by a CA of this machine's own.
    (root / CERTIFICATES.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(CERTIFICATES, root / CERTIFICATES.relative_to("/"))
    container = buildah("from", "scratch")
    buildah("add", "--quiet", container, root, "/")
    path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    buildah("config", "--env", path, "--env", f"PIP_CERT={CERTIFICATES}", container)
    buildah("commit", "--quiet", "--rm", container, BASE)
    shutil.rmtree(root)


def run() -> None:
    """Run the image on SQLite and on PostgreSQL, and check what it promises."""
    with mounted() as image, running_postgres(hasty=True) as postgres, fresh_database(postgres) as url:
        check_files(image)
        check_unsafe_start(image)
        print(f"started in {statistics.median(start_seconds(image) for _ in range(STARTS)):.2f} s on SQLite")
        # The image does not see the Unix socket of PostgreSQL.
        with proxied(url) as proxy:
            serve_and_drain(image, url, {**TRUSTED, "TASKWELL_DATABASE_URL": proxy.conninfo, "TASKWELL_WORKERS": "2"})
    print("image-test: all passed")


@contextmanager
def mounted() -> Iterator[Image]:
    container = buildah("from", IMAGE)
    try:
        yield Image(Path(buildah("mount", container)), buildah("inspect", "--type", "image", IMAGE))
    finally:
        buildah("rm", container)


def check_files(image: Image) -> None:
    """Every module of the environment is compiled, pip is not in it, and only /data and /tmp may be written to."""
    modules = list((image.root / "opt/taskwell/lib").rglob("*.py"))
    compiled = [path for path in modules if any((path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"))]
    assert len(modules) == len(compiled) > 1000, set(modules) - set(compiled)
    assert not list(image.root.glob("opt/taskwell/lib/*/site-packages/pip"))
    prefix = "org.opencontainers.image."
    labels = {name.removeprefix(prefix): value for name, value in image.config["Labels"].items() if prefix in name}
    assert set(labels) == {"description", "licenses", "revision", "title", "version"}
    assert re.fullmatch(r"[0-9a-f]{40}", labels["revision"])


def check_unsafe_start(image: Image) -> None:
    """Without being told how callers are authenticated, the image does not serve."""
    status, log = Container(image).wait()
    assert status == 2, (status, log)
    assert "TASKWELL_GRPC_ADDRESS: other machines can reach 0.0.0.0:50051" in log


def start_seconds(image: Image) -> float:
    """The time from the start of the container to the first health check that says SERVING, on SQLite."""
    started = time.monotonic()
    container = Container(
        image, **TRUSTED, TASKWELL_DATABASE_URL="sqlite:////tmp/taskwell.db", TASKWELL_SHUTDOWN_DELAY="0"
    )
    try:
        until(lambda: probe(ADDRESS) == "SERVING")
        seconds = time.monotonic() - started
        container.stop()
        assert container.wait()[0] == 0
    finally:
        container.kill()
    return seconds


def serve_and_drain(image: Image, url: str, settings: dict[str, str]) -> None:
    """Migrate, serve with two workers, and stop while a call waits for a lock."""
    status, log = Container(image, ["migrate", "up"], **settings).wait()
    assert status == 0, log
    container = Container(image, **settings)
    try:
        until(lambda: probe(ADDRESS) == "SERVING")
        check_process(container, image)
        check_drain(container, image, url)
    finally:
        container.kill()


def check_process(container: Container, image: Image) -> None:
    """The process has no privileges, cannot write to its root, and answers its health check."""
    user, _, group = image.config["User"].partition(":")
    assert set(container.status("Uid").split()) == {user}
    assert set(container.status("Gid").split()) == {group}
    assert int(container.status("CapEff"), 16) == 0
    assert "Read-only file system" in container.run("touch", "/data/new").stderr, "where no volume is mounted"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    check = container.run(*image.health_check)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (check.returncode, check.stdout) == (0, "SERVING\n"), check
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"health check: {seconds:.2f} s of CPU; memory with 2 workers: {container.memory} MB")


def check_drain(container: Container, image: Image, url: str) -> None:
    """A call in flight at SIGTERM is answered, later ones are refused, and the exit status is 0."""
    with grpc.insecure_channel(ADDRESS) as channel, psycopg.connect(url) as other:
        api = Api(channel)
        task = api.create("Buy milk")
        other.execute("SELECT FROM tasks WHERE user_id = %s FOR UPDATE", [api.user])
        waiting = api.start("CompleteTask", tasks_pb2.CompleteTaskRequest(id=task.id))
        container.stop()
        until(lambda: probe(ADDRESS) == "NOT_SERVING")
        assert container.run(*image.health_check).returncode == 1
        assert Api(channel).list().tasks == [], "calls are accepted during the delay"
        until(lambda: refuses(ADDRESS))
        other.rollback()
        assert waiting.result().status == tasks_pb2.TASK_STATUS_COMPLETE
    status, log = container.wait()
    assert status == 0, log


if __name__ == "__main__":
    sys.exit(main())
