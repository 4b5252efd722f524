"""Connection options that every command has: target, user or token, TLS, timeout."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from taskwell_client import Client

TARGET = "127.0.0.1:50051"
TIMEOUT = 10.0

_FILE = click.Path(exists=True, dir_okay=False, readable=True)


def _option(name: str, help: str, **more: Any) -> Callable[[Any], Any]:  # noqa: A002, ANN401 - click's
    variable = "TASKWELL_CLIENT_" + name.removeprefix("--").upper().replace("-", "_")
    return click.option(name, envvar=variable, show_envvar=True, help=help, **more)


_OPTIONS = (
    _option("--target", "Address of the service: host:port, or any gRPC target.", default=TARGET, show_default=True),
    _option("--user", "Your user name, for a service that trusts its callers."),
    _option("--token", "Your bearer token. Other users of this machine can see options: prefer the variable."),
    _option("--tls", "Use TLS; a public CA signed the service's certificate.", is_flag=True),
    _option("--tls-ca", "Use TLS; the CA in this PEM file signed the service's certificate.", type=_FILE),
    _option("--tls-cert", "Client certificate for mutual TLS: a PEM file.", type=_FILE),
    _option("--tls-key", "Private key of the client certificate: a PEM file.", type=_FILE),
    _option("--insecure", "Send the token even over plain text to another machine.", is_flag=True),
    _option("--timeout", "Timeout of a call (s).", default=TIMEOUT, type=click.FloatRange(0, min_open=True)),
)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Pass the command a client as its first argument. A failed call becomes a message and an exit status."""

    @wraps(command)
    def run(target: str, timeout: float, **options: Any) -> None:  # noqa: ANN401 - click's values
        # Imported here, because --help and completion do not need it and it takes longest to load.
        from taskwell_client import TaskwellError

        from taskwell_cli.failures import WRONG, exit_status, sentence

        try:
            client = _client(target, timeout, options)
        except ValueError as error:
            fail(str(error), WRONG)
        try:
            with client:
                command(client, **options)
        except TaskwellError as error:
            fail(sentence(error, target, timeout), exit_status(error))

    for option in reversed(_OPTIONS):
        run = option(run)
    return run


def fail(sentence: str, status: int) -> NoReturn:
    """Exit with a message on standard error."""
    click.echo(f"taskwell: {sentence}", err=True)
    sys.exit(status)


def _client(target: str, timeout: float, options: dict[str, Any]) -> Client:
    """Make a client from the connection options, and remove those from `options`. Raises ValueError."""
    from taskwell_client import TLS, connect

    tls, ca, cert, key = (options.pop(name) for name in ("tls", "tls_ca", "tls_cert", "tls_key"))
    caller = {name: options.pop(name) for name in ("user", "token", "insecure")}
    secure = TLS(ca, cert, key) if ca or cert or key else tls
    return connect(target, tls=secure, timeout=timeout, **caller)


def task_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Complete an id with those of the newest tasks. Empty if the service cannot be asked."""
    from click.shell_completion import CompletionItem
    from taskwell_client import TaskwellError

    from taskwell_cli.output import harmless

    options = dict(context.params)
    try:
        with _client(options.pop("target") or TARGET, 2.0, options) as client:
            found = [task for task in client.page().tasks if task.id.startswith(incomplete)]
    except (TaskwellError, ValueError):
        return []
    # On one line, because shells read one.
    return [CompletionItem(task.id, help=" ".join(harmless(task.title).split())) for task in found]
