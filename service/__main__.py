"""The command line: `taskwell serve | migrate | check | …`; the client adds `task`."""

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from service.standard_streams import drain_streams, never_block, open_missing

# Each command imports what it needs: the supervisor stays in memory and needs almost nothing.
if TYPE_CHECKING:
    from service.config.settings import Settings
    from service.db.schema import Schema
    from service.log import UserIds

USAGE = """\
usage: taskwell COMMAND [--SETTING VALUE ...]

  serve              run the server until SIGTERM or SIGINT
  migrate up         migrate the database schema to this version   [REVISION]
  migrate down       revert the last migration; its data is lost   [REVISION]
  migrate current    print the schema revision of the database
  migrate distribute distribute the tables over the nodes of a Citus cluster   [--sql: only print the statements]
  check              verify the settings, certificates, the issuer's keys, the database and its schema, without serving
                     [--wait SECONDS: for the keys, the database and its migration, default 0]
  config             print the effective settings, with secrets masked
  health             check the server with these settings: exit status 0 if it is SERVING, else 1
  token --user NAME  print a development token signed with TASKWELL_JWT_SECRET
                     [--expires-in SECONDS, default 3600] [--scope SCOPES, default both]
  backup FILE        copy the SQLite database to a new file, while servers use it
  users delete --user ID
                     delete a user with all tasks, for good, and print a receipt   [--yes: do not ask]
  export             print all users and tasks as lines of JSON   [--user ID: those of one user]
  import             read such lines from standard input: those that are there already are left as they are
  --version          print the versions of the service and its client
  task               add, list, show, edit, done, reopen, rm: the tasks of a user, on a running server

Each setting is a flag and an environment variable, also read from the file .env: --grpc-address is
TASKWELL_GRPC_ADDRESS. 'taskwell serve --help' lists them.
"""


def main() -> int:
    """Run a command and return its exit status: 0, 1 for a failure, 2 for wrong usage, with a message on stderr."""
    open_missing()
    command, *arguments = sys.argv[1:] or ["help"]
    if command in {"help", "--help", "-h"}:
        print(USAGE, end="")
        return 0
    if command == "--version":
        command, arguments = "task", ["--version"]
    if command not in COMMANDS:
        return _fail(f"there is no command {command!r}\n\n{USAGE}", status=2)
    # Imported modules stay: scanning them for garbage again and again would take a tenth of the startup time.
    gc.disable()
    try:
        status = COMMANDS[command](arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (`taskwell config | head`) has closed the pipe; Python would try to write the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def serve(arguments: list[str]) -> int:
    _hold_signals()
    from service.config.load import SettingsError, load_settings, log_format_of

    try:
        settings = load_settings("taskwell serve", arguments)
    except SettingsError as error:
        return _cannot_start(str(error), log_format_of(arguments), status=2)
    from service.server.startup import StartError, log_start, make_metrics_folder, prepare_schema, reserve_addresses

    _start_log(settings.log_level, settings.log_format, settings.log_user_ids)
    _exit_on_signal()
    log_start(settings)
    try:
        settings = prepare_schema(settings)
        if settings.worker_count > 1:
            _become_supervisor(reserve_addresses(settings), make_metrics_folder(settings))
        return _serve(settings)
    except StartError as error:
        return _cannot_start(str(error), settings.log_format)


def supervise(arguments: list[str]) -> int:
    """Run the workers. `serve` execs this command if there are several; not for people to call."""
    import asyncio
    import shutil

    from service.server.debug_signals import handle_signals
    from service.server.supervisor import RestartPolicy, Supervisor, WorkersFailed, run_until_signalled

    def announce(announcement: str) -> None:
        print(announcement, end="")

    if len(arguments) != 6:
        return _fail("'taskwell supervise' is started by 'taskwell serve': run that", status=2)
    count, grace, timeout, log_level, log_format, folder = arguments
    _start_log(log_level, log_format)
    policy = RestartPolicy(grace=float(grace), heartbeat_timeout=float(timeout))
    command = [*_this_program(), "work", folder]
    gc.enable()
    observer = None
    if folder:
        from service.metrics.supervision import WorkerMetrics

        observer = WorkerMetrics(Path(folder), int(count))
    supervisor = Supervisor(command, int(count), announce=announce, policy=policy, observer=observer)

    async def run() -> int:
        handle_signals(log_level, asyncio.get_running_loop(), supervisor.forward)
        return await run_until_signalled(supervisor)

    try:
        return asyncio.run(run())
    except WorkersFailed as error:
        return _cannot_start(str(error), log_format)
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def work(arguments: list[str]) -> int:
    """Serve as one of several workers. The supervisor starts this command; not for people to call."""
    _hold_signals()
    from service.server.parent_death import end_with_parent

    if len(arguments) != 2:
        return _fail("'taskwell work' is started by the supervisor: run 'taskwell serve'", status=2)
    if not end_with_parent():
        return _cannot_start("the supervisor has ended", os.environ.get("TASKWELL_LOG_FORMAT", "auto"))
    from service.config.settings import inherited_settings
    from service.server.startup import StartError

    settings, folder, worker = inherited_settings(), arguments[0], int(arguments[1])
    _start_log(settings.log_level, settings.log_format, settings.log_user_ids, worker=worker)
    _exit_on_signal()
    try:
        return _serve(settings, worker, folder)
    except StartError as error:
        return _cannot_start(str(error), settings.log_format, worker=worker)


def migrate(arguments: list[str]) -> int:
    directions = ("up", "down", "current", "distribute")
    if not arguments or arguments[0] not in directions:
        return _fail(f"'taskwell migrate' takes one of {', '.join(directions)}\n\n{USAGE}", status=2)
    direction, *arguments = arguments
    revision = arguments.pop(0) if arguments and not arguments[0].startswith("--") else None
    if direction in {"current", "distribute"} and revision:
        return _fail(f"'taskwell migrate {direction}' takes no revision", status=2)
    if direction == "distribute" and arguments == ["--sql"]:
        from service.db.schema import DISTRIBUTION

        print(*(f"{statement};" for statement in DISTRIBUTION.values()), sep="\n")
        return 0
    settings = _settings(f"migrate {direction}", arguments)
    return _with_schema(settings, lambda schema: schema.migrate(direction, revision))


def check(arguments: list[str]) -> int:
    import argparse

    parser = argparse.ArgumentParser("taskwell check", add_help=False, allow_abbrev=False)
    parser.add_argument("--wait", type=float, default=0.0)
    wanted, rest = parser.parse_known_args(arguments)
    settings = _settings("check", rest)
    from service.auth.jwks import KeysError
    from service.server.authentication import check_keys
    from service.tls.files import CertificateError

    deadline = time.monotonic() + wanted.wait
    try:
        if settings.tls:
            from service.tls.certificates import verified

            verified(settings.tls.read(), datetime.now(UTC))
        _retry(partial(check_keys, settings), deadline, KeysError)
    except (CertificateError, KeysError) as error:
        return _fail(str(error))

    def verify(schema: "Schema") -> str:
        from service.db.schema import SchemaUnknown
        from service.errors import DatabaseUnavailable

        verify = partial(schema.verify, makes_users=settings.users == "any")
        _retry(verify, deadline, SchemaUnknown, DatabaseUnavailable)
        keys = f", the keys ({settings.jwks})" if settings.jwks else ""
        nodes = ", distributed over the nodes of Citus" if schema.is_distributed() else ""
        return f"ok: the settings{keys}, the database ({settings.database}) and its schema ({schema.current()}{nodes})"

    return _with_schema(settings, verify)


def config(arguments: list[str]) -> int:
    from service.commands.config import run

    return _run(run, arguments)


def health(arguments: list[str]) -> int:
    from service.server.health_check import SERVING, check_health, settings_of
    from service.tls.files import CertificateError

    try:
        status, *reasons = check_health(settings_of(arguments))
    except CertificateError as error:
        return _fail(str(error))
    except ValueError as error:
        return _fail(str(error), status=2)
    print(status, *reasons, sep="\n")
    return 0 if status == SERVING else 1


def token(arguments: list[str]) -> int:
    from service.commands.token import run

    return _run(run, arguments)


def backup(arguments: list[str]) -> int:
    from service.commands.backup import run

    return _run(run, arguments)


def users(arguments: list[str]) -> int:
    from service.commands.users import run

    return _run(run, arguments)


def export(arguments: list[str]) -> int:
    from service.commands.transfer import export as run

    return _run(run, arguments)


def import_(arguments: list[str]) -> int:
    from service.commands.transfer import import_ as run

    return _run(run, arguments)


def task(arguments: list[str]) -> int:
    from taskwell_cli import tasks

    tasks(["task", *arguments])


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "serve": serve,
    "supervise": supervise,
    "work": work,
    "migrate": migrate,
    "check": check,
    "config": config,
    "health": health,
    "token": token,
    "backup": backup,
    "users": users,
    "export": export,
    "import": import_,
    "task": task,
}


def _run(command: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Run a command of `service.commands` and return its exit status."""
    from service.commands.failure import CommandFailed

    gc.enable()  # they may run for long
    try:
        return command(arguments)
    except CommandFailed as error:
        return _fail(str(error), status=error.status)


def _settings(command: str, arguments: list[str]) -> "Settings":
    """Load the settings; exit with a message if they are invalid."""
    from service.config.load import SettingsError, load_settings

    try:
        return load_settings(f"taskwell {command}", arguments)
    except SettingsError as error:
        sys.exit(_fail(str(error), status=2))


def _start_log(level: str, style: str, user_ids: "UserIds" = "plain", **always: object) -> None:
    """Set up the log of a long-running process: no write to it may block or fail."""
    from service.log import configure_log, log_uncaught

    # The gRPC core writes to the file descriptor directly, which may block, and in its own format.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    never_block()
    configure_log(level, style, user_ids, **always)
    log_uncaught(style)


def _hold_signals() -> None:
    """Keep signals from ending this process and those that it starts: SIGHUP for good, the others until handled."""
    # There is nothing to reload: settings are read once, and certificates are read again when they change.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGUSR1, signal.SIGUSR2))


def _exit_on_signal() -> None:
    """Exit on SIGTERM and SIGINT until the server installs its handlers: by default, PID 1 ignores them."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _serve(settings: "Settings", worker: int | None = None, metrics_folder: str = "") -> int:
    import asyncio

    import uvloop

    from service.server.app import serve as serve_until_stopped
    from service.server.debug_signals import handle_signals

    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        handle_signals(settings.log_level, runner.get_loop())
        runner.run(serve_until_stopped(settings, worker, metrics_folder))
    return 0


def _become_supervisor(settings: "Settings", metrics_folder: str) -> NoReturn:
    """Exec the supervisor: its process then has nothing in memory that was imported so far."""
    # Blocked until the supervisor handles them: PID 1 of a container would ignore them.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    # After the delay a worker needs its grace period for the calls in flight, and a few seconds more to close and exit.
    grace = settings.shutdown_delay + settings.shutdown_grace + 5
    limits = (settings.worker_count, grace, settings.worker_timeout)
    arguments = (*limits, settings.log_level, settings.log_format, metrics_folder)
    command = [*_this_program(), "supervise", *map(str, arguments)]
    drain_streams()
    os.execve(command[0], command, settings.as_environment(os.environ))  # noqa: S606 - this program itself


def _this_program() -> list[str]:
    """Return the command that started this process, without its arguments."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def _with_schema(settings: "Settings", action: Callable[["Schema"], str]) -> int:
    """Run an action on the schema and print its result. Messages of the driver are shown: they are for the operator."""
    from service.commands.failure import CommandFailed, database_errors
    from service.db.schema import Schema

    try:
        with database_errors(settings):
            print(action(Schema(settings.database)))
    except CommandFailed as error:
        return _fail(str(error))
    return 0


def _retry(action: Callable[[], object], deadline: float, *errors: type[Exception]) -> None:
    """Call the action until it raises none of these errors; from the deadline on, raise them."""
    while True:
        try:
            action()
        except errors:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def _cannot_start(sentence: str, log_format: str, *, status: int = 1, **always: object) -> int:
    """Say why the server does not start: in a line of the log where that is JSON, else in a sentence."""
    from service.log import configure_log, writes_json

    if not writes_json(log_format):
        return _fail(sentence, status=status)
    import structlog

    drain_streams()  # the lines so far come first
    never_block()
    configure_log("info", log_format, **always)  # type: ignore[arg-type]  # none of them is `user_ids`
    structlog.get_logger("app").critical("cannot start", message=sentence)
    return status


def _fail(sentence: str, *, status: int = 1) -> int:
    never_block()
    print(f"taskwell: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
