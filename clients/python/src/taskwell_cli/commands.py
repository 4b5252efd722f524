"""`taskwell task ...`: the tasks of one user, on a running service."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from taskwell_cli import service_commands
from taskwell_cli.connection import connected, fail, task_ids

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskwell_client import Client, Task

_EXIT_STATUSES = """\
Exit status: 0 success, 1 failure, 2 invalid option or value, 3 no such task, 4 conflict, 5 not allowed, 6 unavailable:
try again later."""

_as_json = click.option("--json", "as_json", is_flag=True, help="Print each task as one line of JSON.")
_etag = click.option("--etag", help="Fail if the task has changed since this etag was read.")
_id = click.argument("id", shell_complete=task_ids)


class _Commands(click.Group):
    """The client's commands, and the names of the service's, for shell completion."""

    def list_commands(self, context: click.Context) -> list[str]:
        return sorted({*super().list_commands(context), *service_commands()})

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        known = super().get_command(context, name)
        return click.Command(name) if known is None and name in service_commands() else known


@click.group(cls=_Commands)
def taskwell() -> None:
    """Taskwell, the task-management microservice."""


@taskwell.group(epilog=_EXIT_STATUSES)
def task() -> None:
    """The tasks of one user, on a running service."""


@task.command()
@click.argument("title")
@click.option("--description", default="", help="A longer text.")
@click.option("--request-id", help="A UUID: repeating it returns the same task instead of creating another.")
@_as_json
@connected
def add(client: Client, title: str, description: str, request_id: str | None, as_json: bool) -> None:
    """Create a task."""
    _show_one(client.create(title, description, request_id=request_id), as_json)


@task.command("list")
@click.option("--status", type=click.Choice(["incomplete", "complete"]), help="Only tasks of this status.")
@click.option("--oldest-first", is_flag=True, help="Oldest first.")
@click.option("--all", "everything", is_flag=True, help="List all tasks, not only the first 50.")
@_as_json
@connected
def list_tasks(client: Client, status: str | None, oldest_first: bool, everything: bool, as_json: bool) -> None:
    """List tasks, newest first."""
    from taskwell_client import ANY_STATUS, COMPLETE, INCOMPLETE

    wanted = {None: ANY_STATUS, "incomplete": INCOMPLETE, "complete": COMPLETE}[status]
    if everything:
        _show_list(client.list(status=wanted, oldest_first=oldest_first, page_size=1000), as_json)
        return
    page = client.page(status=wanted, oldest_first=oldest_first)
    _show_list(page.tasks, as_json)
    if page.next_page_token:
        click.echo("taskwell: there are more; --all lists them", err=True)


@task.command()
@_id
@_as_json
@connected
def show(client: Client, id: str, as_json: bool) -> None:  # noqa: A002 - the option's name
    """Show all fields of a task."""
    _show_one(client.get(id), as_json)


@task.command()
@_id
@click.option("--title", help="The new title.")
@click.option("--description", help="The new description; an empty one clears it.")
@_etag
@_as_json
@connected
def edit(
    client: Client,
    id: str,  # noqa: A002 - the option's name
    title: str | None,
    description: str | None,
    etag: str | None,
    as_json: bool,
) -> None:
    """Change the title or the description of a task."""
    if title is None and description is None:
        fail("there is nothing to change: give --title, --description or both", 2)
    _show_one(client.update(id, title=title, description=description, etag=etag), as_json)


@task.command()
@_id
@_etag
@_as_json
@connected
def done(client: Client, id: str, etag: str | None, as_json: bool) -> None:  # noqa: A002 - the option's name
    """Complete a task."""
    _show_one(client.complete(id, etag=etag), as_json)


@task.command()
@_id
@_etag
@_as_json
@connected
def reopen(client: Client, id: str, etag: str | None, as_json: bool) -> None:  # noqa: A002 - the option's name
    """Reopen a task."""
    from taskwell_client import INCOMPLETE

    _show_one(client.update(id, status=INCOMPLETE, etag=etag), as_json)


@task.command()
@_id
@_etag
@connected
def rm(client: Client, id: str, etag: str | None) -> None:  # noqa: A002 - the option's name
    """Delete a task permanently."""
    client.delete(id, etag=etag)


def _show_one(task: Task, as_json: bool) -> None:
    from taskwell_cli import output

    if as_json:
        output.show_json([task])
    else:
        output.show_one(task)


def _show_list(tasks: Iterable[Task], as_json: bool) -> None:
    from taskwell_cli import output

    if as_json:
        output.show_json(tasks)
    else:
        output.show_list(tasks)
