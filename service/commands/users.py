"""`taskwell users delete`: deletes a user with all tasks, for good, and prints a receipt."""

import argparse
import json
import sys
from datetime import UTC, datetime

from service.commands.failure import CommandFailed, database_errors, settings_of, verify_database
from service.db.user_deletion import count_tasks, delete_user


def run(arguments: list[str]) -> int:
    if arguments[:1] != ["delete"]:
        raise CommandFailed("'taskwell users' takes delete: taskwell users delete --user ID", status=2)
    parser = argparse.ArgumentParser("taskwell users delete", add_help=False, allow_abbrev=False)
    parser.add_argument("--user", required="--help" not in arguments)
    parser.add_argument("--yes", action="store_true")
    wanted, rest = parser.parse_known_args(arguments[1:])
    settings = settings_of("users delete", rest)
    verify_database(settings)
    with database_errors(settings):
        count = count_tasks(settings.database, wanted.user)
        if count is None:
            raise CommandFailed(f"there is no user {wanted.user!r}: nothing was deleted")
        if not wanted.yes:
            _confirm(wanted.user, count)
        deleted = delete_user(settings.database, wanted.user)
    now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    print(
        json.dumps({"user": wanted.user, "users_deleted": deleted.users, "tasks_deleted": deleted.tasks, "time": now})
    )
    return 0


def _confirm(user: str, count: int) -> None:
    """Ask on the terminal. Raises CommandFailed without one, and for any other answer than the user id."""
    if not sys.stdin.isatty():
        raise CommandFailed(f"{user!r} and {count} tasks would be deleted for good: add --yes to do so")
    print(f"Delete {user!r} and {count} tasks for good? Type the user id: ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().rstrip("\n") != user:
        raise CommandFailed("nothing was deleted")
