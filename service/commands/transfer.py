"""`taskwell export` and `taskwell import`: users and tasks as lines of JSON."""

import argparse
import json
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from service.commands.failure import CommandFailed, database_errors, settings_of, verify_database
from service.db.session import open_session
from service.db.transfer import PAGE, Values, exported, import_batch, parsed
from service.strict_json import parse_object

_SHOWN = 10
"""Keys of different tasks that are named on standard error."""


def export(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser("taskwell export", add_help=False, allow_abbrev=False)
    parser.add_argument("--user")
    wanted, rest = parser.parse_known_args(arguments)
    settings = settings_of("export", rest)
    verify_database(settings)
    progress = _Progress("exported")
    with database_errors(settings), open_session(settings.database) as session:
        rows = exported(session, wanted.user)
        while page := list(islice(rows, PAGE)):
            lines = [f"{_encode({'kind': kind, **values})}\n" for kind, values in page]
            try:
                sys.stdout.buffer.write("".join(lines).encode())
            except BrokenPipeError:
                raise
            except OSError as error:
                raise CommandFailed(f"the export is not complete, it cannot be written: {error.strerror}") from error
            progress.add(len(page))
    progress.end()
    if wanted.user is not None and not progress.count:
        raise CommandFailed(f"there is no user {wanted.user!r}: nothing was exported")
    return 0


def import_(arguments: list[str]) -> int:
    settings = settings_of("import", arguments)
    verify_database(settings)
    progress = _Progress("imported")
    users = tasks = total = different = 0
    some: list[tuple[str, str]] = []
    with database_errors(settings), open_session(settings.database) as session:
        for batch in _batches(sys.stdin.buffer):
            imported = import_batch(session, batch)
            users, tasks = users + imported.users, tasks + imported.tasks
            total += sum(kind == "task" for kind, _ in batch)
            different += len(imported.different)
            some = (some + list(imported.different))[:_SHOWN]
            progress.add(len(batch))
    progress.end()
    there = total - tasks - different
    report = {"users_created": users, "tasks_created": tasks, "already_there": there, "different": different}
    print(json.dumps(report))
    if different:
        named = ", ".join(f"{user}/{task}" for user, task in some)
        raise CommandFailed(
            f"{different} tasks are there with other content, and were left as they are, such as {named}"
        )
    return 0


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _batches(lines: Iterable[bytes]) -> Iterator[Sequence[tuple[str, Values]]]:
    """Parse lines into batches. The rows before a line that is wrong are a batch of their own."""
    batch: list[tuple[str, Values]] = []
    for number, line in enumerate(lines, start=1):
        try:
            batch.append(parsed(parse_object(line)))
        except ValueError as error:
            yield batch
            raise CommandFailed(f"line {number}: {error}. The lines before it are imported") from error
        if len(batch) == PAGE:
            yield batch
            batch = []
    yield batch


class _Progress:
    """Counts rows, and shows the count once a second if standard error is a terminal."""

    def __init__(self, verb: str) -> None:
        self.count = 0
        self._verb = verb
        self._began = self._shown = time.monotonic()

    def add(self, count: int) -> None:
        self.count += count
        if sys.stderr.isatty() and time.monotonic() - self._shown >= 1:
            self._show()

    def end(self) -> None:
        if sys.stderr.isatty():
            self._show()
            print(file=sys.stderr)

    def _show(self) -> None:
        self._shown = time.monotonic()
        rate = self.count / max(self._shown - self._began, 0.001)
        print(f"\r{self._verb} {self.count:,} rows, {rate:,.0f}/s ", end="", file=sys.stderr, flush=True)
