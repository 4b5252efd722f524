"""Connection options that every command has: profile, target, user or token, TLS, timeout."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from taskwell_cli.failures import WRONG, CommandFailed

if TYPE_CHECKING:
    from taskwell_client import Client

TARGET = "127.0.0.1:50051"
TIMEOUT = 10.0

_FILE = click.Path(exists=True, dir_okay=False, readable=True)
_PRECEDENCE = (
    ParameterSource.COMMANDLINE,
    ParameterSource.ENVIRONMENT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.DEFAULT,
)


def text(value: str) -> str:
    """A text that is not empty: an empty one is a variable that is not set."""
    if value == "":
        raise click.BadParameter("it is empty: is a variable not set?")
    return value


def _load_profile(context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    """Make the options of the profile the defaults of the others, which are read after this one."""
    from taskwell_cli.profiles import profile

    try:
        context.default_map = profile(name)
    except CommandFailed:
        if not context.resilient_parsing:  # where a shell asks for completions, there is nobody to tell
            raise
    return name


def _option(*names: str, help: str, **more: Any) -> Callable[[Any], Any]:  # noqa: A002, ANN401 - click's
    variable = "TASKWELL_CLIENT_" + names[0].partition("/")[0].removeprefix("--").upper().replace("-", "_")
    return click.option(*names, envvar=variable, show_envvar=True, help=help, **more)


_OPTIONS = (
    _option("--profile", help="Profile of the configuration file.", type=text, is_eager=True, callback=_load_profile),
    _option(
        "--target",
        help="Address of the service: host:port, or any gRPC target.",
        type=text,
        default=TARGET,
        show_default=True,
    ),
    _option("--user", help="Your user name, for a service that trusts its callers.", type=text),
    _option(
        "--token",
        help="Your bearer token. Other users of this machine can see options: prefer the variable.",
        type=text,
    ),
    _option("--tls/--no-tls", help="Use TLS; a public CA signed the service's certificate."),
    _option("--tls-ca", help="Use TLS; the CA in this PEM file signed the service's certificate.", type=_FILE),
    _option("--tls-cert", help="Client certificate for mutual TLS: a PEM file.", type=_FILE),
    _option("--tls-key", help="Private key of the client certificate: a PEM file.", type=_FILE),
    _option("--insecure/--no-insecure", help="Send the token even over plain text to another machine."),
    _option(
        "--timeout",
        help="Timeout of a call (s).",
        default=TIMEOUT,
        show_default=True,
        type=click.FloatRange(0, min_open=True),
    ),
)


def connected(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """Pass the command a client as its first argument. A failed call becomes a message and an exit status."""

    @wraps(command)
    @click.pass_context
    def run(context: click.Context, /, **options: Any) -> int | None:  # noqa: ANN401 - click's values
        # The gRPC core would write lines of its own to standard error.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        # Imported here, because --help and completion do not need it and it takes longest to load.
        from taskwell_client import TaskwellError

        client = client_of(context, options)
        try:
            with client:
                return command(client, **options)
        except TaskwellError as error:
            raise failed(error, context) from error

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def failed(error: Any, context: click.Context) -> CommandFailed:  # noqa: ANN401 - a TaskwellError, not yet imported
    """The failure of the command for a failed call."""
    from taskwell_cli.failures import exit_status, sentence

    said = sentence(error, context.params["target"], context.params["timeout"])
    return CommandFailed(said, exit_status(error))


def client_of(context: click.Context, options: dict[str, Any]) -> Client:
    """Make a client from the connection options, and remove those from `options`. Raises CommandFailed."""
    from taskwell_client import TLS, connect

    options.pop("profile")
    target, timeout, insecure = (options.pop(name) for name in ("target", "timeout", "insecure"))
    tls, ca, cert, key = (options.pop(name) for name in ("tls", "tls_ca", "tls_cert", "tls_key"))
    user, token = options.pop("user"), options.pop("token")
    if user is not None and token is not None:
        user_rank, token_rank = (_PRECEDENCE.index(_source(context, name)) for name in ("user", "token"))
        user, token = user if user_rank <= token_rank else None, token if token_rank <= user_rank else None
    try:
        secure = TLS(ca, cert, key) if ca or cert or key else tls
        return connect(target, user=user, token=token, tls=secure, insecure=insecure, timeout=timeout)
    except ValueError as error:
        raise CommandFailed(str(error), WRONG) from error
    except OSError as error:
        raise CommandFailed(f"cannot read {error.filename}: {error.strerror}", WRONG) from error


def _source(context: click.Context, name: str) -> ParameterSource:
    return context.get_parameter_source(name) or ParameterSource.DEFAULT
