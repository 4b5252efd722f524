"""Runs the command line: whatever fails becomes one line on standard error and a documented exit status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from taskwell_cli import service_commands, streams
from taskwell_cli.failures import FAILED, INTERRUPTED, UNWRITTEN, WRONG, CommandFailed
from taskwell_cli.streams import say

_ALIASES = {"ls": "list", "complete": "done", "delete": "rm"}


class Program(click.Group):
    """The client's commands, and the names of the service's, for shell completion."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *service_commands()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        known = super().get_command(context, name)
        return click.Command(name) if known is None and name in service_commands() else known

    def main(self, args: Sequence[str] | None = None, *more: Any, **extra: Any) -> Any:  # noqa: ANN401 - click's
        from taskwell_cli import completion

        completion.register()
        run = super().main
        arguments = list(sys.argv[1:] if args is None else args)
        sys.exit(exit_status_of(arguments, lambda: run(arguments, *more, **{**extra, "standalone_mode": False})))


class Commands(click.Group):
    """Commands, some of which have a second name."""

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        return super().get_command(context, _ALIASES.get(name, name))


def exit_status_of(arguments: Sequence[str], program: Callable[[], Any]) -> int:
    """Run a program of click. Returns the exit status."""
    if not streams.prepare():
        say("taskwell: standard output is closed, and nothing was done: send it to /dev/null if nobody reads it")
        return FAILED
    for number, argument in enumerate(arguments, start=1):
        if not argument.isascii() and argument.encode(errors="replace").decode() != argument:
            say(f"taskwell: argument {number} is not valid text in the encoding of this terminal: {argument}")
            return WRONG
    try:
        status = program()
        sys.stdout.flush()
    except CommandFailed as error:
        return _failed(error)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return WRONG
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        say(f"taskwell: {error.format_message().rstrip('.')}{hint}")
        return WRONG
    except (click.Abort, KeyboardInterrupt):
        say("taskwell: interrupted")
        return INTERRUPTED
    except OSError as error:  # of click's own output
        return _failed(streams.unwritten(error))
    return status if isinstance(status, int) else 0


def _failed(error: CommandFailed) -> int:
    if error.status == UNWRITTEN:
        streams.abandon(sys.stdout)
    if error.sentence:
        say(f"taskwell: {error.sentence}")
    for line in error.more:
        say(line)
    return error.status
