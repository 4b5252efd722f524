"""The command line: `taskwell serve | migrate | check | config | health | token`; `task` is the client's."""

import argparse
import asyncio
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from service.standard_streams import drain, never_block, open_missing

# Each command loads what it needs: a supervisor stays in memory and needs next to nothing.
if TYPE_CHECKING:
    from service.config.settings import Settings
    from service.db.schema import Schema

USAGE = """\
usage: taskwell COMMAND [--SETTING VALUE ...]

  serve              serve the tasks until SIGTERM or SIGINT
  migrate up         bring the schema of the database to this version   [REVISION]
  migrate down       take the last migration back, and what it holds    [REVISION]
  migrate current    print the schema revision of the database
  check              verify settings, database and schema without serving
  config             print the effective settings, secrets masked
  health             ask the server at the address of the settings; exit 0 if it serves, else 1
  token --user NAME  print a token for development, signed with TASKWELL_JWT_SECRET
                     [--expires-in SECONDS, else 3600] [--scope SCOPES, else both]
  task               add, list, show, edit, done, reopen, rm: a user's tasks on a running service

Every setting is a flag and an environment variable, in upper case behind TASKWELL_ (also in a file .env):
--grpc-address is TASKWELL_GRPC_ADDRESS. 'taskwell serve --help' lists them.
"""


def main() -> int:
    """Run one command; the exit status is 0, or 1 for a failure and 2 for a wrong call, with a sentence on stderr."""
    open_missing()
    command, *arguments = sys.argv[1:] or ["help"]
    if command in {"help", "--help", "-h"}:
        print(USAGE, end="")
        return 0
    if command not in COMMANDS:
        return _fail(f"there is no command {command!r}\n\n{USAGE}", status=2)
    # What is loaded now stays for good: to look for garbage in it again and again takes a tenth of the time to start.
    gc.disable()
    try:
        status = COMMANDS[command](arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us (`taskwell config | head`) has seen enough; Python would try to write the rest once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def serve(arguments: list[str]) -> int:
    settings = _settings("serve", arguments)
    from service.server.startup import StartError, metrics_folder, prepare_schema, reserve_addresses

    _begin_log(settings.log_level, settings.log_format)
    _end_without_a_word()
    try:
        prepare_schema(settings)
        if settings.worker_count > 1:
            _become_supervisor(reserve_addresses(settings), metrics_folder(settings))
        return _serve(settings)
    except StartError as error:
        return _fail(str(error))


def supervise(arguments: list[str]) -> int:
    """What `serve` becomes where there are several workers; not for people to call."""
    from service.server.supervisor import GivenUp, Patience, Supervisor, run_until_signalled

    def announce(words: str) -> None:
        print(words, end="")

    def forget(worker: int) -> None:
        if folder:
            from prometheus_client.multiprocess import mark_process_dead

            mark_process_dead(worker, folder)  # type: ignore[no-untyped-call]  # of prometheus_client

    if len(arguments) != 5:
        return _fail("'taskwell supervise' is what 'taskwell serve' becomes; call that", status=2)
    count, grace, log_level, log_format, folder = arguments
    _begin_log(log_level, log_format)
    patience = Patience(grace=float(grace))
    command = [*_this_program(), "work"]
    gc.enable()
    supervisor = Supervisor(command, int(count), announce=announce, on_death=forget, patience=patience)
    try:
        return asyncio.run(run_until_signalled(supervisor))
    except GivenUp as error:
        return _fail(str(error))
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def work(arguments: list[str]) -> int:
    """Serve as one of several workers; for the supervisor to call."""
    from service.config.settings import inherited_settings
    from service.server.startup import StartError

    if len(arguments) != 1:
        return _fail("'taskwell work' is for the supervisor to call; call 'taskwell serve'", status=2)
    settings, worker = inherited_settings(), int(arguments[0])
    _begin_log(settings.log_level, settings.log_format, worker=worker)
    _end_without_a_word()
    try:
        return _serve(settings, worker)
    except StartError as error:
        return _fail(str(error))


def migrate(arguments: list[str]) -> int:
    directions = ("up", "down", "current")
    if not arguments or arguments[0] not in directions:
        return _fail(f"'taskwell migrate' takes one of {', '.join(directions)}\n\n{USAGE}", status=2)
    direction, *arguments = arguments
    revision = arguments.pop(0) if arguments and not arguments[0].startswith("--") else None
    if direction == "current" and revision:
        return _fail("'taskwell migrate current' takes no revision", status=2)
    settings = _settings(f"migrate {direction}", arguments)
    return _about_schema(settings, lambda schema: schema.migrate(direction, revision))


def check(arguments: list[str]) -> int:
    settings = _settings("check", arguments)
    from service.tls.files import CertificateError

    if settings.tls:
        from service.tls.certificates import verified

        try:
            verified(settings.tls.read())
        except CertificateError as error:
            return _fail(str(error))

    def verify(schema: "Schema") -> str:
        schema.verify(makes_users=settings.users == "any")
        return f"ok: the settings, the database ({settings.database}) and its schema ({schema.newest})"

    return _about_schema(settings, verify)


def config(arguments: list[str]) -> int:
    settings = _settings("config", arguments)
    from service.config.field_types import PREFIX

    for name in type(settings).model_fields:
        value = settings.database if name == "database_url" else getattr(settings, name)
        print(f"{PREFIX}{name.upper()}={_shown(value)}")
    return 0


def health(arguments: list[str]) -> int:
    settings = _settings("health", arguments)
    from service.server.health_check import probe_itself
    from service.tls.files import CertificateError

    try:
        answer = probe_itself(settings)
    except CertificateError as error:
        return _fail(str(error))
    print(answer)
    return 0 if answer == "SERVING" else 1


def token(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("taskwell token", add_help=False, allow_abbrev=False)
    parser.add_argument("--user", required="--help" not in arguments)
    parser.add_argument("--expires-in", type=int, default=3600)
    parser.add_argument("--scope")
    wanted, rest = parser.parse_known_args(arguments)
    settings = _settings("token", rest)
    if not settings.jwt_secret:
        return _fail(
            "tokens can be made only with TASKWELL_AUTH=jwt and TASKWELL_JWT_SECRET; those that are verified with "
            "TASKWELL_JWT_JWKS come from their issuer, who alone has the private key"
        )
    from service.auth.dev_tokens import mint_token
    from service.server.authentication import expected_of

    scope = wanted.scope if wanted.scope is not None else f"{settings.jwt_read_scope} {settings.jwt_write_scope}"
    secret = settings.jwt_secret.get_secret_value()
    try:
        print(mint_token(secret, expected_of(settings), wanted.user, scope, int(time.time()), wanted.expires_in))
    except ValueError as error:
        return _fail(str(error))
    return 0


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
    "task": task,
}


def _settings(command: str, arguments: list[str]) -> "Settings":
    """The settings; ends the process with a sentence where they are wrong."""
    from service.config.load import SettingsError, load_settings

    try:
        return load_settings(f"taskwell {command}", arguments)
    except SettingsError as error:
        sys.exit(_fail(str(error), status=2))


def _begin_log(level: str, style: str, **always: object) -> None:
    """Set up the log of a process that stays: nothing that it says may block or fail, whoever says it."""
    from service.log import configure_log, log_uncaught

    # The gRPC core writes to the descriptor itself, which blocks, and lines of its own form.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    never_block()
    configure_log(level, style, **always)
    log_uncaught()


def _end_without_a_word() -> None:
    """Let a signal end the process, also the first one of a container, until a server has handlers of its own."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))


def _serve(settings: "Settings", worker: int | None = None) -> int:
    import uvloop

    from service.server.app import serve as serve_until_stopped

    gc.enable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve_until_stopped(settings, worker))
    return 0


def _become_supervisor(settings: "Settings", metrics_folder: str) -> NoReturn:
    """Turn into a process that runs nothing but the supervisor, without all that was loaded until here."""
    # Held back until the supervisor listens to them: the first process of a container would not hear them.
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGINT))
    # A worker ends its calls in the time that it is given, and then needs a moment for itself.
    grace = settings.shutdown_grace + 5
    arguments = (settings.worker_count, grace, settings.log_level, settings.log_format, metrics_folder)
    command = [*_this_program(), "supervise", *map(str, arguments)]
    drain()
    environment = {**settings.as_environment(os.environ), "PROMETHEUS_MULTIPROC_DIR": metrics_folder}
    os.execve(command[0], command, environment)  # noqa: S606 - of this very program


def _this_program() -> list[str]:
    """The command that started this process, without the arguments."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def _about_schema(settings: "Settings", action: Callable[["Schema"], str]) -> int:
    """Do something with the schema and print what it says; what a driver says is for who runs this command."""
    from service.db.schema import Schema, SchemaUnknown
    from service.errors import DatabaseUnavailable

    try:
        print(action(Schema(settings.database)))
    except SchemaUnknown as error:
        return _fail(str(error))
    except DatabaseUnavailable as error:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        return _fail(f"cannot reach the database ({settings.database}): {str(cause).strip()}")
    return 0


def _shown(value: object) -> object:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def _fail(sentence: str, *, status: int = 1) -> int:
    never_block()
    print(f"taskwell: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
