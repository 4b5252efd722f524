"""Prints tasks: as rows for people, as tab-separated lines and JSON for programs."""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, cast

import click
from taskwell_client import COMPLETE, Task

from taskwell_cli import streams
from taskwell_cli.failures import CommandFailed
from taskwell_cli.short_ids import short_ids
from taskwell_cli.streams import escaped

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

_PAGE = 1000
"""Tasks that are laid out together: a page of the longest kind, so that a list is printed as it arrives."""

_STATUS, _CREATED = 10, 16
"""Widths of the columns behind the title."""


def show_list(tasks: Iterable[Task], style: str | None, *, header: bool = True) -> None:
    """Print one line for each task, as soon as its page has arrived.

    `style` is "json", "ids", or None for rows: a table on a terminal, else whole ids and titles with tabs between.
    """
    if style is None and sys.stdout.isatty():
        _write_table(tasks, header=header)
        return
    line = {"json": _json, "ids": lambda task: escaped(task.id), None: _tab_separated}[style]
    for page in _pages(tasks):
        _write(map(line, page))


def show_changed(tasks: Sequence[Task], style: str | None) -> None:
    """Print the tasks that a command has changed. If that is impossible, the error says that they are changed."""
    try:
        show_list(tasks, style, header=False)
    except CommandFailed as error:
        done = f"; what was asked for is done: {', '.join(task.id for task in tasks)}"
        raise streams.unwritten(cast("OSError", error.__cause__), done) from error


def show_details(task: Task, style: str | None) -> None:
    """Print all fields of a task."""
    if style is not None:
        show_list([task], style)
        return
    fields = {
        "Title": task.title,
        "Description": task.description,
        "Status": _status(task),
        "Created": _moment(task.create_time),
        "Updated": _moment(task.update_time),
        "Completed": _moment(task.complete_time) if task.HasField("complete_time") else "",
        "ID": task.id,
        "Etag": task.etag,
    }
    for name, value in fields.items():
        parts = value.splitlines() if name == "Description" else [value]
        lines = [line for part in parts for line in _folded(escaped(part), max(_columns() - 13, 10))]
        if value:
            _write(f"{name if number == 0 else '':<11}  {line}".rstrip() for number, line in enumerate(lines))


def row(task: Task) -> str:
    """One line for a message on standard error: the whole id and the title, cut where a terminal would break it."""
    return f"{escaped(task.id)}  {_cut(escaped(task.title), max(shutil.get_terminal_size().columns - 40, 10))}"


def _write_table(tasks: Iterable[Task], *, header: bool) -> None:
    columns, widest = _columns(), 5
    for page in _pages(tasks):
        ids = short_ids([task.id for task in page])
        titles = [escaped(task.title) for task in page]
        id_width = max(map(len, ids))
        room = columns - id_width - 2
        status = room - _STATUS - 2 >= 10
        created = room - _STATUS - _CREATED - 4 >= 20
        room -= (_STATUS + 2) * status + (_CREATED + 2) * created
        widest = min(max(widest, *map(_width, titles)), max(room, 1))

        def line(cells: Sequence[str], id_width: int = id_width, widest: int = widest) -> str:
            identifier, title, *others = cells
            return "  ".join([f"{identifier:<{id_width}}", _padded(title, widest), *others]).rstrip()

        shown = [True, True, status, created]
        if header:
            names = ("ID", "TITLE", f"{'STATUS':<{_STATUS}}", "CREATED")
            _write([click.style(line([name for name, each in zip(names, shown, strict=True) if each]), bold=True)])
            header = False
        cells = (
            (id_, title, f"{_status(task):<{_STATUS}}", _moment(task.create_time))
            for id_, title, task in zip(ids, titles, page, strict=True)
        )
        _write(line([cell for cell, each in zip(every, shown, strict=True) if each]) for every in cells)


def _pages(tasks: Iterable[Task]) -> Iterator[list[Task]]:
    walk = iter(tasks)
    while page := list(islice(walk, _PAGE)):
        yield page


def _write(lines: Iterable[str]) -> None:
    try:
        for line in lines:
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except OSError as error:
        raise streams.unwritten(error) from error


def _tab_separated(task: Task) -> str:
    created = task.create_time.ToJsonString()
    return "\t".join((escaped(task.id), escaped(task.title), _status(task), created))


def _json(task: Task) -> str:
    """One line of JSON, with the field names of grpcurl and REST. What is no visible character is escaped."""
    from google.protobuf.json_format import MessageToJson

    as_ascii = not (sys.stdout.encoding or "").lower().startswith("utf")
    text = MessageToJson(task, indent=None, ensure_ascii=as_ascii, always_print_fields_with_no_presence=True)
    return text if text.isprintable() else "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _status(task: Task) -> str:
    return "complete" if task.status == COMPLETE else "incomplete"


def _moment(time: Timestamp) -> str:
    """Format a time in the local time zone, to the minute."""
    from datetime import timezone

    return f"{time.ToDatetime(timezone.utc).astimezone():%Y-%m-%d %H:%M}"


def _columns() -> int:
    """Width to fold and cut at: that of the terminal; without one there is no limit."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def _width(text: str) -> int:
    """Columns that an escaped text takes on a terminal, or a few more."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def _character_width(character: str) -> int:
    if unicodedata.east_asian_width(character) in "WF":
        return 2
    # The variation selectors count, because one of them makes many a character before it wide.
    return 0 if unicodedata.combining(character) else 1


def _cut(text: str, width: int) -> str:
    """The beginning of the text, with an ellipsis if it does not fit."""
    if _width(text) <= width:
        return text
    [first, *_] = _folded(text, max(width - 1, 1))
    return f"{first}\N{HORIZONTAL ELLIPSIS}"


def _padded(text: str, width: int) -> str:
    text = _cut(text, width)
    return text + " " * (width - _width(text))


def _folded(text: str, width: int) -> list[str]:
    """The text in pieces of at most this width."""
    lines, used = [""], 0
    for character in text:
        needed = _character_width(character)
        if used + needed > width and lines[-1]:
            lines.append("")
            used = 0
        lines[-1] += character
        used += needed
    return lines
