"""A standard output or standard error that cannot be written stops neither a call, nor a start, nor a shutdown."""

import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import grpc
import pytest
from grpc import StatusCode

from tests.running import Api, refused
from tests.server.starting import COMMAND, TIMEOUT, accepts, is_free
from tests.waiting import until

KINDS = ["full disk", "reader gone", "nobody reads", "closed"]


@contextmanager
def unwritable(kind: str) -> Iterator[int]:
    """A descriptor of which every write fails, or blocks where nobody reads. (A closed one the shell makes.)"""
    if kind in {"full disk", "closed"}:
        with Path("/dev/full").open("w") as full:
            yield full.fileno()
        return
    reading, writing = os.pipe()
    if kind == "reader gone":
        os.close(reading)
    else:
        os.set_blocking(writing, False)
        with suppress(BlockingIOError):
            while True:
                os.write(writing, bytes(1))
        os.set_blocking(writing, True)
    try:
        yield writing
    finally:
        os.close(writing)
        if kind != "reader gone":
            os.close(reading)


@contextmanager
def serving_into(folder: Path, *, out: str, err: str, count: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server with such streams, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    closing_ = "".join(f" {number}>&-" for number, kind in ((1, out), (2, err)) if kind == "closed")
    command = [*COMMAND, "serve", "--grpc-address", address, "--workers", str(count), "--log-level", "debug"]
    with unwritable(out) as stdout, unwritable(err) as stderr:
        process = subprocess.Popen(
            ["/bin/sh", "-c", f'exec "$@" <&-{closing_}', "sh", *command],
            cwd=folder,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
            stdout=stdout,
            stderr=stderr,
        )
        try:
            until(lambda: process.poll() is not None or accepts(address))
            yield process, address
        finally:
            process.kill()
            process.wait()


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    ("out", "err"), [*((kind, kind) for kind in KINDS), ("nobody reads", "full disk"), ("closed", "nobody reads")]
)
def test_streams_that_cannot_be_written_stop_nothing(folder: Path, out: str, err: str, count: int) -> None:
    with serving_into(folder, out=out, err=err, count=count) as (process, address):
        for _ in range(20):
            with grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
                api = Api(channel)
                task = api.create()
                with refused(StatusCode.NOT_FOUND, "TASK_NOT_FOUND"):
                    api.as_user().get(task.id)
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 0
        until(lambda: is_free(address))
    with closing(sqlite3.connect(folder / "taskwell.db")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("SELECT count(*) FROM tasks").fetchone() == (20,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_start_that_fails_ends_where_its_sentence_cannot_be_written(tmp_path: Path, kind: str) -> None:
    (tmp_path / ".env").write_text("TASKWELL_USERS=nobody\n")
    with serving_into(tmp_path, out=kind, err=kind, count=2) as (process, _):
        assert process.wait(TIMEOUT) == 2
    (tmp_path / ".env").unlink()
    (tmp_path / "taskwell.db").mkdir()
    with serving_into(tmp_path, out=kind, err=kind, count=2) as (process, _):
        assert process.wait(TIMEOUT) == 1
