"""Dependencies are used through their public APIs, except for the names listed in docs/architecture/private-apis.md.

A test of the second half that fails after an upgrade names what changed and the module to look at.
"""

import ast
import asyncio
import importlib
import inspect
import signal
import socket
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeGuard
from unittest.mock import Mock

import grpc
import grpc.aio
import pytest
import uvicorn
from grpc_health.v1 import health_pb2_grpc
from sqlalchemy import DateTime, Integer, bindparam, literal, select
from sqlalchemy.dialects import sqlite
from taskwell.v1 import tasks_pb2_grpc

from service.config.settings import Settings
from service.rest.connections import Limits
from service.rest.http_server import HttpServer
from service.rpc import in_process
from service.rpc.handlers import behaviour_of, with_behaviour
from service.server.grpc_options import server_options

ROOT = Path(__file__).parents[2]
LISTED = (ROOT / "docs" / "architecture" / "private-apis.md").read_text()
MODULES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in sorted((ROOT / "service").rglob("*.py"))
}
OURS = {"service", "migrations", "taskwell"}
NOT_DEPENDENCIES = OURS | sys.stdlib_module_names

# Undocumented names of dependencies, and the one module that may use each.
UNDOCUMENTED = {
    "bind_names": "service/db/compiled_statement.py",
}
BOUNDED = {"grpcio", "grpcio-reflection", "sqlalchemy", "uvicorn"}
# Documented names that begin with an underscore: of os, of sys, of named tuples, and two of pydantic-settings.
DOCUMENTED = {"_current_frames", "_exit", "_fields", "_replace", "_env_file", "_cli_parse_args"}


def is_private(name: str | None) -> bool:
    return name is not None and name.startswith("_") and not name.endswith("__") and name not in DOCUMENTED


def is_on_self(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}


def private_names(tree: ast.Module) -> Iterator[str]:
    """Names with a leading underscore that are imported from elsewhere, or read from anything but `self`."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.partition(".")[0] not in OURS:
            names = [*node.module.split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Attribute) and not is_on_self(node):
            names = [node.attr]
        elif isinstance(node, ast.keyword) and node.arg:
            names = [node.arg]
        yield from filter(is_private, names)


def names_of_base_classes(tree: ast.Module) -> Iterator[str]:
    """Names with a leading underscore that a class reads from `self`, but neither defines nor sets."""
    for each in ast.walk(tree):
        if isinstance(each, ast.ClassDef):
            on_self = [node for node in ast.walk(each) if is_on_self(node) and is_private(node.attr)]
            defined = {node.attr for node in on_self if isinstance(node.ctx, ast.Store)}
            defined |= {node.name for node in each.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
            defined |= {
                node.id for node in ast.walk(each) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            yield from sorted({node.attr for node in on_self} - defined)


@pytest.mark.parametrize("module", MODULES)
def test_private_names_of_dependencies_are_not_used(module: str) -> None:
    assert list(private_names(MODULES[module])) == []
    assert list(names_of_base_classes(MODULES[module])) == []


@pytest.mark.parametrize("module", MODULES)
def test_private_methods_of_dependencies_are_not_overridden(module: str) -> None:
    loaded = importlib.import_module(module.removesuffix(".py").removesuffix("/__init__").replace("/", "."))
    for _, each in inspect.getmembers(loaded, inspect.isclass):
        if each.__module__ == loaded.__name__:
            foreign = [base for base in each.__mro__ if base.__module__.partition(".")[0] not in NOT_DEPENDENCIES]
            methods = [name for name, value in vars(each).items() if is_private(name) and inspect.isroutine(value)]
            assert [name for name in methods if any(name in vars(base) for base in foreign)] == []


@pytest.mark.parametrize(("name", "only_module"), UNDOCUMENTED.items())
def test_an_undocumented_name_is_used_in_one_module_that_names_it(name: str, only_module: str) -> None:
    users = {
        module
        for module, tree in MODULES.items()
        if any(name in (getattr(node, kind, None) for kind in ("attr", "id", "name")) for node in ast.walk(tree))
    }
    assert users == {only_module}
    assert name in str(ast.get_docstring(MODULES[only_module]))
    assert f"`{name}" in LISTED or f".{name}" in LISTED


@pytest.mark.parametrize("dependency", sorted(BOUNDED))
def test_a_dependency_with_undocumented_names_in_use_has_an_upper_bound(dependency: str) -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (requirement,) = [each for each in dependencies if each.startswith((f"{dependency}>", f"{dependency}["))]
    assert ",<" in requirement
    assert f"`{requirement}`" in LISTED


# What the private APIs are used for. Each test fails if the dependency no longer does that.


def test_sqlalchemy_SQLCompiler_bind_names_has_each_parameter_with_its_type_and_constant() -> None:  # noqa: N802
    compiled = select(bindparam("given", type_=DateTime()), literal(7, Integer())).compile(dialect=sqlite.dialect())
    binds = {name: bind for bind, name in compiled.bind_names.items()}
    assert {name: bind.value for name, bind in binds.items()} == {"given": None, "param_1": 7}
    assert isinstance(binds["given"].type, DateTime)
    process = binds["given"].type.dialect_impl(sqlite.dialect()).bind_processor(sqlite.dialect())
    assert process
    assert process(datetime(2026, 11, 27, tzinfo=UTC)) == "2026-11-27 00:00:00.000000"


@pytest.mark.parametrize(
    "register", [tasks_pb2_grpc.add_TaskServiceServicer_to_server, health_pb2_grpc.add_HealthServicer_to_server]
)
def test_generated_code_registers_a_service_by_methods_that_in_process_has(register: Mock) -> None:
    server = Mock(spec=in_process.InProcess)
    register(Mock(), server)
    server.add_registered_method_handlers.assert_called_once()
    assert hasattr(grpc.aio.Server, "add_registered_method_handlers")


def test_grpc_aio_ServicerContext_has_what_the_in_process_context_has() -> None:  # noqa: N802
    offered = {name for name in dir(in_process.InProcessContext) if not name.startswith("_")}
    assert offered <= set(dir(grpc.aio.ServicerContext))


@pytest.mark.parametrize("kind", ["unary_unary", "unary_stream", "stream_unary", "stream_stream"])
def test_grpc_RpcMethodHandler_can_be_taken_apart_and_rebuilt(kind: str) -> None:  # noqa: N802
    first, second = Mock(), Mock()
    handler = getattr(grpc, f"{kind}_rpc_method_handler")(first, Mock(), Mock())
    assert behaviour_of(handler) is first
    rebuilt = with_behaviour(handler, second)
    assert getattr(rebuilt, kind) is second
    assert rebuilt.request_deserializer is handler.request_deserializer
    assert rebuilt.response_serializer is handler.response_serializer


async def test_uvicorn_Server_capture_signals_is_what_installs_signal_handlers() -> None:  # noqa: N802
    before = signal.getsignal(signal.SIGTERM)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = HttpServer(Mock(), Limits(1, 1024, head_seconds=1, idle_seconds=1, response_seconds=1, min_rate=1))
        await server.start([listener], None)
        during = signal.getsignal(signal.SIGTERM)
        await server.stop(grace=1)
    assert during == before
    assert hasattr(uvicorn.Server, "capture_signals")


def test_uvicorn_Config_http_protocol_class_makes_connections_with_an_app_state() -> None:  # noqa: N802
    config = uvicorn.Config(Mock(), http="h11", log_config=None)
    config.load()
    assert isinstance(config.http_protocol_class, type)
    assert issubclass(config.http_protocol_class, asyncio.Protocol)
    assert "app_state" in inspect.signature(config.http_protocol_class).parameters


OPTIONS = [name for name, _ in server_options(Settings(_env_file=None))]  # type: ignore[call-arg]


@pytest.fixture(scope="module")
def grpc_core() -> bytes:
    """The gRPC core library, which ignores channel arguments that it does not know."""
    (core,) = (Path(grpc.__file__).parent / "_cython").glob("cygrpc*.so")
    return core.read_bytes()


@pytest.mark.parametrize("name", [*OPTIONS, "grpc.so_reuseport", "grpc.enable_http_proxy"])
def test_the_grpc_core_knows_the_channel_argument(grpc_core: bytes, name: str) -> None:
    assert name.encode() + b"\0" in grpc_core
