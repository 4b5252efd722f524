"""The options that say where the service is and who is calling, the same for every command."""

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
    _option(
        "--target", "Where the service is: host:port, or another target of gRPC.", default=TARGET, show_default=True
    ),
    _option("--user", "Who is calling, for a service that takes your word for it."),
    _option("--token", "The token that says who is calling. Others on this machine see flags: prefer the variable."),
    _option("--tls", "The service has TLS, and a certificate of a public CA.", is_flag=True),
    _option("--tls-ca", "The service has TLS, and a certificate of the CA in this PEM file.", type=_FILE),
    _option("--tls-cert", "Your certificate, where the service asks for one: a PEM file.", type=_FILE),
    _option("--tls-key", "The key of that certificate.", type=_FILE),
    _option("--insecure", "Send the token even over plain text to another machine.", is_flag=True),
    _option("--timeout", "How long a call may take (s).", default=TIMEOUT, type=click.FloatRange(0, min_open=True)),
)


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give the command a client as its first argument, and end the program well when a call fails."""

    @wraps(command)
    def run(target: str, timeout: float, **options: Any) -> None:  # noqa: ANN401 - click's values
        # Here and not above: --help and completion do without what takes longest to load.
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
    """End the program with a sentence on standard error."""
    click.echo(f"taskwell: {sentence}", err=True)
    sys.exit(status)


def _client(target: str, timeout: float, options: dict[str, Any]) -> Client:
    """A client by the options, which are taken out of what is left for the command. Raises ValueError."""
    from taskwell_client import TLS, connect

    tls, ca, cert, key = (options.pop(name) for name in ("tls", "tls_ca", "tls_cert", "tls_key"))
    caller = {name: options.pop(name) for name in ("user", "token", "insecure")}
    secure = TLS(ca, cert, key) if ca or cert or key else tls
    return connect(target, tls=secure, timeout=timeout, **caller)


def task_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """The newest tasks that a half typed id may mean, for the shell's completion; none where that is not known."""
    from click.shell_completion import CompletionItem
    from taskwell_client import TaskwellError

    from taskwell_cli.output import harmless

    options = dict(context.params)
    try:
        with _client(options.pop("target") or TARGET, 2.0, options) as client:
            found = [task for task in client.page().tasks if task.id.startswith(incomplete)]
    except (TaskwellError, ValueError):
        return []
    # In one line, because shells read one.
    return [CompletionItem(task.id, help=" ".join(harmless(task.title).split())) for task in found]
