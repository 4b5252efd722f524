"""Failures of commands, and loading the settings of a command."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.config.load import SettingsError, load_settings
from service.config.settings import Settings
from service.db.schema import Schema, SchemaUnknown
from service.db.session import DatabaseRefused
from service.db.url import SqliteFile
from service.errors import DatabaseUnavailable


class CommandFailed(Exception):
    """A command cannot do its work; the message says why and what to do. `status` is the exit status."""

    def __init__(self, sentence: str, *, status: int = 1) -> None:
        super().__init__(sentence)
        self.status = status


def settings_of(command: str, arguments: list[str]) -> Settings:
    """Load the settings. Raises CommandFailed if they are invalid; exits for --help."""
    try:
        return load_settings(f"taskwell {command}", arguments)
    except SettingsError as error:
        raise CommandFailed(str(error), status=2) from error


def verify_database(settings: Settings) -> None:
    """Raise CommandFailed unless the database exists, with a schema that this version can work with."""
    refuse_missing_file(settings)
    with database_errors(settings):
        Schema(settings.database).verify(makes_users=False)


def refuse_missing_file(settings: Settings) -> None:
    """Raise CommandFailed if the database is an SQLite file that does not exist: SQLite would make it."""
    if isinstance(settings.database, SqliteFile) and not settings.database.path.exists():
        raise CommandFailed(
            f"there is no file {settings.database.path}: name the database with TASKWELL_DATABASE_URL or "
            "--database-url; 'taskwell migrate up' makes a new one"
        )


@contextmanager
def database_errors(settings: Settings) -> Iterator[None]:
    """Turn errors of the database into CommandFailed. Messages of the driver are shown: they are for the operator."""
    try:
        yield
    except (SchemaUnknown, DatabaseRefused) as error:
        raise CommandFailed(str(error)) from error
    except DatabaseUnavailable as error:
        cause = getattr(error.__cause__, "orig", error.__cause__)
        raise CommandFailed(f"cannot reach the database ({settings.database}): {str(cause).strip()}") from error
