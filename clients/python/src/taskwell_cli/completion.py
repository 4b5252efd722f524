"""Shell completion: task ids with titles beside them, also in bash, which has no descriptions of its own."""

from __future__ import annotations

import os
from typing import Any

import click


def register() -> None:
    """Have bash show descriptions, if a shell asks for completions."""
    if "_TASKWELL_COMPLETE" not in os.environ:
        return
    from click.shell_completion import BashComplete, CompletionItem, add_completion_class

    class Bash(BashComplete):
        """Shows descriptions behind the candidates, as long as there are several: a single one is inserted."""

        def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem]:
            found = super().get_completions(args, incomplete)
            return [_described(item) for item in found] if len(found) > 1 else found

    def _described(item: CompletionItem) -> CompletionItem:
        if item.type != "plain" or not item.help:
            return item
        # The shell reads it with `read`, which takes backslashes away.
        return CompletionItem(f"{item.value}  ({item.help})".replace("\\", "\\\\"), type=item.type)

    add_completion_class(Bash, "bash")


def task_ids(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[Any]:
    """Complete an id with those of the newest tasks. Empty if the service cannot be asked."""
    from click.shell_completion import CompletionItem
    from taskwell_client import TaskwellError

    from taskwell_cli.connection import TARGET, client_of
    from taskwell_cli.failures import CommandFailed
    from taskwell_cli.short_ids import short_ids
    from taskwell_cli.streams import escaped

    options = {**context.params, "timeout": 2.0, "target": context.params.get("target") or TARGET}
    try:
        with client_of(context, options) as client:
            tasks = client.page().tasks
    except (TaskwellError, CommandFailed):
        return []
    short = short_ids([task.id for task in tasks])
    for ids in (short, [task.id for task in tasks]):
        named = [(id_, task) for id_, task in zip(ids, tasks, strict=True) if id_.startswith(incomplete)]
        if named:
            return [CompletionItem(id_, help=escaped(task.title)[:60]) for id_, task in named]
    return []
