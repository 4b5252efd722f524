"""Prints tasks: as tables for people, as JSON lines for programs."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable

import click
from google.protobuf.json_format import MessageToJson
from google.protobuf.timestamp_pb2 import Timestamp
from taskwell_client import COMPLETE, Task

_BIDI = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
"""Characters that change the direction of what follows them."""


def show_json(tasks: Iterable[Task]) -> None:
    """Print each task as one line of JSON as soon as it arrives, with the field names of grpcurl and REST."""
    for task in tasks:
        click.echo(MessageToJson(task, indent=None, ensure_ascii=False, always_print_fields_with_no_presence=True))


def show_list(tasks: Iterable[Task]) -> None:
    """Print a table with one line for each task."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("ID", no_wrap=True)
    table.add_column("STATUS", no_wrap=True)
    table.add_column("CREATED", no_wrap=True)
    table.add_column("TITLE", overflow="fold")
    for task in tasks:
        style = "dim" if task.status == COMPLETE else ""
        table.add_row(task.id, _status(task), _moment(task.create_time), Text(harmless(task.title)), style=style)
    _print(table)


def show_one(task: Task) -> None:
    """Print all fields of a task."""
    from rich.table import Table
    from rich.text import Text

    rows = {
        "Title": task.title,
        "Description": task.description,
        "Status": _status(task),
        "Created": _moment(task.create_time),
        "Updated": _moment(task.update_time),
        "Completed": _moment(task.complete_time) if task.HasField("complete_time") else "",
        "ID": task.id,
        "Etag": task.etag,
    }
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows.items():
        if value:
            table.add_row(name, Text(harmless(value)))
    _print(table)


def _print(table: object) -> None:
    from rich.console import Console

    # Without a terminal there is no width to fold lines at.
    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(table)


def _status(task: Task) -> str:
    return "complete" if task.status == COMPLETE else "incomplete"


def _moment(time: Timestamp) -> str:
    """Format a time in the local time zone, to the minute."""
    from datetime import timezone

    return f"{time.ToDatetime(timezone.utc).astimezone():%Y-%m-%d %H:%M}"


def harmless(text: str) -> str:
    """Replace characters that control the terminal or the direction of text, except line breaks and tabs."""
    return "".join(each if _isharmless(each) else "\N{REPLACEMENT CHARACTER}" for each in text)


def _isharmless(character: str) -> bool:
    return character in "\n\t" or (unicodedata.category(character) != "Cc" and ord(character) not in _BIDI)
