"""The command line: `taskwell serve | migrate | check | config | health | token`."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.address import Address
from service.auth.files import CertificateError, read_pem
from service.loading import SettingsError, load_settings
from service.settings import PREFIX, Settings

if TYPE_CHECKING:
    from service.db.schema import Schema
    from service.rpc.probe import Trust

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

Every setting is a flag and an environment variable, in upper case behind TASKWELL_ (also in a file .env):
--grpc-address is TASKWELL_GRPC_ADDRESS. 'taskwell serve --help' lists them.
"""


def main() -> int:
    """Run one command; the exit status is 0, or 1 for a failure and 2 for a wrong call, with a sentence on stderr."""
    command, *arguments = sys.argv[1:] or ["help"]
    if command in {"help", "--help", "-h"}:
        print(USAGE, end="")
        return 0
    if command not in COMMANDS:
        return _fail(f"there is no command {command!r}\n\n{USAGE}", status=2)
    try:
        status = COMMANDS[command](arguments)
        sys.stdout.flush()
    except SettingsError as error:
        return _fail(str(error), status=2)
    except BrokenPipeError:
        # Whoever read us (`taskwell config | head`) has seen enough; Python would try to write the rest once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status


def serve(arguments: list[str]) -> int:
    settings = load_settings("taskwell serve", arguments)
    import uvloop

    from service.app import StartError, prepare_schema
    from service.app import serve as serve_until_stopped
    from service.log import configure_log

    configure_log(settings.log_level, settings.log_format)
    # Until the server has handlers of its own: without a word, and also as the first process of a container.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        prepare_schema(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve_until_stopped(settings))
    except StartError as error:
        return _fail(str(error))
    return 0


def migrate(arguments: list[str]) -> int:
    directions = ("up", "down", "current")
    if not arguments or arguments[0] not in directions:
        return _fail(f"'taskwell migrate' takes one of {', '.join(directions)}\n\n{USAGE}", status=2)
    direction, *arguments = arguments
    revision = arguments.pop(0) if arguments and not arguments[0].startswith("--") else None
    if direction == "current" and revision:
        return _fail("'taskwell migrate current' takes no revision", status=2)
    settings = load_settings(f"taskwell migrate {direction}", arguments)
    return _about_schema(settings, lambda schema: schema.migrate(direction, revision))


def check(arguments: list[str]) -> int:
    settings = load_settings("taskwell check", arguments)
    if settings.tls:
        from service.auth.certificates import verified

        try:
            verified(settings.tls.read())
        except CertificateError as error:
            return _fail(str(error))

    def verify(schema: "Schema") -> str:
        schema.verify(makes_users=settings.users == "any")
        return f"ok: the settings, the database ({settings.database}) and its schema ({schema.newest})"

    return _about_schema(settings, verify)


def config(arguments: list[str]) -> int:
    settings = load_settings("taskwell config", arguments)
    for name in Settings.model_fields:
        value = settings.database if name == "database_url" else getattr(settings, name)
        print(f"{PREFIX}{name.upper()}={_shown(value)}")
    return 0


def health(arguments: list[str]) -> int:
    settings = load_settings("taskwell health", arguments)
    from service.rpc.probe import probe

    address = settings.grpc
    try:
        trust = _trust(settings)
    except CertificateError as error:
        return _fail(str(error))
    # A server that listens on every address is asked on this machine's own.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host, address.host)  # noqa: S104 - compared, not bound
    answer = probe(str(Address(host, address.port)), trust)
    print(answer)
    return 0 if answer == "SERVING" else 1


def token(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("taskwell token", add_help=False, allow_abbrev=False)
    parser.add_argument("--user", required="--help" not in arguments)
    parser.add_argument("--expires-in", type=int, default=3600)
    parser.add_argument("--scope")
    wanted, rest = parser.parse_known_args(arguments)
    settings = load_settings("taskwell token", rest)
    if not settings.jwt_secret:
        return _fail(
            "tokens can be made only with TASKWELL_AUTH=jwt and TASKWELL_JWT_SECRET; those that are verified with "
            "TASKWELL_JWT_JWKS come from their issuer, who alone has the private key"
        )
    from service.auth.minting import mint_token
    from service.identity import expected_of

    scope = wanted.scope if wanted.scope is not None else f"{settings.jwt_read_scope} {settings.jwt_write_scope}"
    secret = settings.jwt_secret.get_secret_value()
    try:
        print(mint_token(secret, expected_of(settings), wanted.user, scope, int(time.time()), wanted.expires_in))
    except ValueError as error:
        return _fail(str(error))
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "serve": serve,
    "migrate": migrate,
    "check": check,
    "config": config,
    "health": health,
    "token": token,
}


def _about_schema(settings: Settings, action: Callable[["Schema"], str]) -> int:
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


def _trust(settings: Settings) -> "Trust | None":
    """How the probe and a TLS server know each other. Raises CertificateError."""
    if settings.tls is None:
        return None
    from service.auth.certificates import dns_names
    from service.rpc.probe import Trust

    chain, key, _ = settings.tls.read()
    ca = read_pem("HEALTH_CA", settings.health_ca) if settings.health_ca else chain
    name = next(iter(dns_names(chain)), None)
    if settings.health_cert and settings.health_key:
        chain, key = read_pem("HEALTH_CERT", settings.health_cert), read_pem("HEALTH_KEY", settings.health_key)
    return Trust(ca, name, key, chain)


def _shown(value: object) -> object:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value


def _fail(sentence: str, *, status: int = 1) -> int:
    print(f"taskwell: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
