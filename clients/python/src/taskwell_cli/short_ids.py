"""Short ids of tasks: the last digits of the id, as few as tell tasks apart.

The first digits of an id are its time (UUID version 7), which tasks of the same minute share; the last are random. Any
beginning of an id is taken as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING
from uuid import UUID

from taskwell_cli.failures import NOT_FOUND, WRONG, CommandFailed

if TYPE_CHECKING:
    from taskwell_client import Client, Task

LENGTH = 8
"""Digits of a short id, or more where two of those that are shown share them."""
SHORTEST = 4
MOST = 20_000
"""Tasks that are searched for a short id, newest first."""
_SHOWN = 10
"""Candidates that an ambiguous id is answered with."""


def short_ids(ids: Sequence[str]) -> list[str]:
    """The short ids of tasks that are shown together."""
    length = LENGTH
    while length < 36 and max(Counter(each[-length:] for each in ids).values(), default=1) > 1:
        length += 1
    return [each[-length:] for each in ids]


def resolved(client: Client, given: Sequence[str]) -> list[str]:
    """The whole ids for ids, short ids and beginnings of ids, each once. Raises CommandFailed."""
    short = {each for each in given if not _is_whole(each)}
    for each in short:
        if not (SHORTEST <= len(each) <= 36 and re.fullmatch(r"[0-9a-fA-F-]+", each)):
            sentence = (
                f"{each!r} is no id of a task: give one of 'taskwell task list', or at least {SHORTEST} digits of it"
            )
            raise CommandFailed(sentence, WRONG)
    tasks = list(islice(client.list(page_size=1000), MOST + 1)) if short else []
    found = {each: _only(each, tasks) for each in short}
    return list(dict.fromkeys(found.get(each, each) for each in given))


def _only(short: str, tasks: Sequence[Task]) -> str:
    from taskwell_cli.output import row

    part = short.lower()
    matching = [task for task in tasks[:MOST] if task.id.startswith(part) or task.id.endswith(part)]
    if len(matching) > 1:
        rest = len(matching) - _SHOWN
        lines = (*map(row, matching[:_SHOWN]), *([f"and {rest} more"] if rest > 0 else []))
        raise CommandFailed(f"{short!r} is ambiguous: give more digits of one of these", WRONG, lines)
    if len(tasks) > MOST:
        raise CommandFailed(
            f"you have more than {MOST} tasks, which are not searched for {short!r}: give the whole id", WRONG
        )
    if not matching:
        raise CommandFailed(f"there is no task {short!r}: 'taskwell task list' shows yours", NOT_FOUND)
    return matching[0].id


def _is_whole(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False
