"""`taskwell backup FILE`: copies an SQLite database while servers use it."""

import json
from pathlib import Path

from service.commands.failure import CommandFailed, refuse_missing_file, settings_of
from service.db.backup import BackupFailed, back_up
from service.db.url import SqliteFile


def run(arguments: list[str]) -> int:
    file = arguments.pop(0) if arguments and not arguments[0].startswith("-") else ""
    settings = settings_of("backup", arguments)
    if not isinstance(settings.database, SqliteFile):
        raise CommandFailed(
            "'taskwell backup' copies SQLite databases; back up PostgreSQL with pg_dump: docs/operations/backup.md has "
            "the commands"
        )
    if not file:
        raise CommandFailed("name the file to write: taskwell backup FILE", status=2)
    refuse_missing_file(settings)
    try:
        size = back_up(settings.database.path, Path(file))
    except BackupFailed as error:
        raise CommandFailed(str(error)) from error
    print(json.dumps({"database": str(settings.database.path), "backup": file, "bytes": size}))
    return 0
