"""The Python clients, the Go client and the command line know every RPC of the contract."""

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from taskwell.v1 import tasks_pb2
from taskwell_cli.commands import task as command_group
from taskwell_cli.commands import taskwell
from taskwell_client.tasks import Tasks

from tests.clients.clients import Connect
from tests.clients.scripted import Scripted, scripted_server
from tests.clients.test_retries import SAFE, UNSAFE
from tests.methods import SERVICE

GO_CALLS = Path(__file__).parents[2] / "clients" / "go" / "calls.go"
ID = "019f0000-0000-7000-8000-000000000000"

# The RPCs that have no method, no command, and why.
NOT_IN_THE_CLIENTS: dict[str, str] = {}
NOT_ON_THE_COMMAND_LINE: dict[str, str] = {}


@pytest.fixture
def server() -> Iterator[Scripted]:
    with scripted_server() as server:
        yield server


def test_the_python_clients_have_a_method_for_every_rpc(connect: Connect, server: Scripted) -> None:
    client = connect(server.address, user="alice")
    for call in [*SAFE.values(), *UNSAFE.values()]:
        call(client)
    assert {method for method, _ in server.attempts} == set(SERVICE.methods_by_name) - set(NOT_IN_THE_CLIENTS)


def test_every_method_of_the_python_clients_is_tested_for_retries() -> None:
    public = {name for name, value in vars(Tasks).items() if callable(value) and not name.startswith("_")}
    assert {name.partition(" ")[0] for name in (*SAFE, *UNSAFE)} == public - {"as_user"}


def test_the_go_client_knows_of_every_request_whether_it_may_be_sent_again() -> None:
    [body] = re.findall(r"^func isRepeatable.*?^}", GO_CALLS.read_text(), flags=re.MULTILINE | re.DOTALL)
    known = re.findall(r"\*taskwellv1\.(\w+)", body)
    assert sorted(known) == sorted(method.input_type.name for method in SERVICE.methods)


def test_the_command_line_has_a_command_for_every_rpc(server: Scripted) -> None:
    server.answers(tasks_pb2.Task(id=ID).SerializeToString())
    environment = {
        "TASKWELL_CLIENT_TARGET": server.address,
        "TASKWELL_CLIENT_USER": "alice",
        "XDG_CONFIG_HOME": "/nowhere",
    }
    for name, command in command_group.commands.items():
        arguments = [ID for each in command.params if isinstance(each, click.Argument)]
        options = ["--title", "Buy milk"] if name == "edit" else []  # which refuses to change nothing
        CliRunner(env=environment).invoke(taskwell, ["task", name, *arguments, *options], prog_name="taskwell")
    assert {method for method, _ in server.attempts} == set(SERVICE.methods_by_name) - set(NOT_ON_THE_COMMAND_LINE)
