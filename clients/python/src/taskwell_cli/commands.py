"""`taskwell task ...`: the tasks of one user, on a running service."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from taskwell_cli.completion import task_ids
from taskwell_cli.connection import connected, failed, text
from taskwell_cli.failures import WRONG, CommandFailed
from taskwell_cli.program import Commands, Program
from taskwell_cli.streams import say, title_from_stdin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taskwell_client import Client

_EXIT_STATUSES = """\
Exit status: 0 success, 1 failure, 2 invalid option or value, 3 no such task, 4 conflict, 5 not allowed, 6 unavailable:
try again later, 7 the output could not be written, but what was asked for is done, 130 interrupted."""

_FIRST = 50
"""Tasks that `list` prints without --limit and --all."""

_as_json = click.option("--json", "style", flag_value="json", help="Print each task as one line of JSON.")
_quiet = click.option("-q", "--quiet", "style", flag_value="ids", help="Print whole ids alone.")
_etag = click.option("--etag", type=text, help="Fail if the task has changed since this etag was read.")
_id = click.argument("id", type=text, shell_complete=task_ids)
_ids = click.argument("ids", type=text, nargs=-1, required=True, metavar="ID...", shell_complete=task_ids)


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from taskwell_cli import versions

        click.echo(versions())
        context.exit()


_with_version = click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Print the version."
)


@click.group(cls=Program)
@_with_version
def taskwell() -> None:
    """Taskwell, the task-management microservice."""


@taskwell.group(cls=Commands, epilog=_EXIT_STATUSES)
@_with_version
def task() -> None:
    """The tasks of one user, on a running service.

    An ID may be cut to its last or first digits, at least 4, as long as it is that of one task.
    """


@task.command()
@click.argument("title", type=text)
@click.option("--description", default="", help="A longer text.")
@click.option("--request-id", type=text, help="A UUID: repeating it returns the same task instead of creating another.")
@_as_json
@_quiet
@connected
def add(client: Client, title: str, description: str, request_id: str | None, style: str | None) -> None:
    """Create a task. The title "-" is read from standard input."""
    from taskwell_cli.output import show_changed

    title = title_from_stdin() if title == "-" else title
    show_changed([client.create(title, description, request_id=request_id)], style)


@task.command("list", short_help="List tasks, newest first (or: ls).")
@click.option("--status", type=click.Choice(["incomplete", "complete"]), help="Only tasks of this status.")
@click.option("--oldest-first", is_flag=True, help="Oldest first.")
@click.option("-n", "--limit", type=click.IntRange(1), help=f"List so many tasks, {_FIRST} by default.")
@click.option("--all", "everything", is_flag=True, help="List all tasks.")
@_as_json
@_quiet
@connected
def list_tasks(
    client: Client, status: str | None, oldest_first: bool, limit: int | None, everything: bool, style: str | None
) -> None:
    """List tasks, newest first. `ls` is the same."""
    from taskwell_client import ANY_STATUS, COMPLETE, INCOMPLETE

    from taskwell_cli.output import show_list

    if everything and limit:
        raise CommandFailed("give --limit or --all, not both", WRONG)
    wanted = {None: ANY_STATUS, "incomplete": INCOMPLETE, "complete": COMPLETE}[status]
    most = sys.maxsize - 1 if everything else limit or _FIRST
    tasks = client.list(status=wanted, oldest_first=oldest_first, page_size=min(most + 1, 1000))
    show_list(islice(tasks, most), style)
    if next(tasks, None):
        say("taskwell: there are more; --all lists them")


@task.command()
@_id
@_as_json
@_quiet
@connected
def show(client: Client, id: str, style: str | None) -> None:  # noqa: A002 - the option's name
    """Show all fields of a task."""
    from taskwell_cli.output import show_details
    from taskwell_cli.short_ids import resolved

    show_details(client.get(*resolved(client, [id])), style)


@task.command()
@_id
@click.option("--title", type=text, help="The new title.")
@click.option("--description", help="The new description; an empty one clears it.")
@_etag
@_as_json
@_quiet
@connected
def edit(
    client: Client,
    id: str,  # noqa: A002 - the option's name
    title: str | None,
    description: str | None,
    etag: str | None,
    style: str | None,
) -> None:
    """Change the title or the description of a task."""
    if title is None and description is None:
        raise CommandFailed("there is nothing to change: give --title, --description or both", WRONG)
    _update(client, id, style, title=title, description=description, etag=etag)


@task.command(short_help="Complete tasks (or: complete).")
@_ids
@_etag
@_as_json
@_quiet
@connected
def done(client: Client, ids: Sequence[str], etag: str | None, style: str | None) -> int | None:
    """Complete tasks. `complete` is the same."""
    from taskwell_cli.short_ids import resolved

    whole = resolved(client, _for_etag(ids, etag))
    if etag:
        return _report(whole, [client.complete(whole[0], etag=etag)], style)
    return _report(whole, client.complete_many(whole), style)


@task.command()
@_id
@_etag
@_as_json
@_quiet
@connected
def reopen(client: Client, id: str, etag: str | None, style: str | None) -> None:  # noqa: A002 - the option's name
    """Reopen a task."""
    from taskwell_client import INCOMPLETE

    _update(client, id, style, status=INCOMPLETE, etag=etag)


@task.command(short_help="Delete tasks permanently (or: delete).")
@_ids
@_etag
@_as_json
@_quiet
@connected
def rm(client: Client, ids: Sequence[str], etag: str | None, style: str | None) -> int | None:
    """Delete tasks permanently, and print what was deleted. `delete` is the same."""
    from taskwell_client import TaskwellError

    from taskwell_cli.short_ids import resolved

    whole = resolved(client, _for_etag(ids, etag))
    found = client.get_many(whole)
    if etag and not isinstance(found[0], TaskwellError):
        client.delete(whole[0], etag=etag)
    elif not etag:
        deleted = client.delete_many([task.id for task in found if not isinstance(task, TaskwellError)])
        outcomes = iter(deleted)
        found = [task if isinstance(task, TaskwellError) else next(outcomes) or task for task in found]
    return _report(whole, found, style)


def _update(client: Client, id: str, style: str | None, **changes: Any) -> None:  # noqa: A002, ANN401 - of update
    from taskwell_cli.output import show_changed
    from taskwell_cli.short_ids import resolved

    [whole] = resolved(client, [id])
    show_changed([client.update(whole, **changes)], style)


def _for_etag(ids: Sequence[str], etag: str | None) -> Sequence[str]:
    if etag and len(ids) > 1:
        raise CommandFailed("--etag goes with a single task", WRONG)
    return ids


def _report(ids: Sequence[str], outcomes: Sequence[Any], style: str | None) -> int | None:
    """Print the tasks that were changed, and the errors of the others. Returns the exit status of the first error."""
    from taskwell_client import TaskwellError

    from taskwell_cli.output import show_changed

    context = click.get_current_context()
    errors = [
        (id_, failed(each, context)) for id_, each in zip(ids, outcomes, strict=True) if isinstance(each, TaskwellError)
    ]
    for id_, error in errors:
        say(f"taskwell: {f'{id_}: ' if len(ids) > 1 else ''}{error.sentence}")
    show_changed([each for each in outcomes if not isinstance(each, TaskwellError)], style)
    return errors[0][1].status if errors else None
