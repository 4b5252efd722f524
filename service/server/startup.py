"""What has to be before a server can start: its addresses, its schema, its folders."""

import tempfile
import time

import structlog

from service.address import Address
from service.config.field_types import PREFIX
from service.config.settings import Settings
from service.db.schema import Schema, SchemaUnknown
from service.db.url import SqliteFile
from service.errors import DatabaseUnavailable
from service.server.sockets import reserve

_log = structlog.get_logger("app")


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


def cannot_listen(setting: str, address: Address) -> StartError:
    return StartError(
        f"cannot listen on {address}: the address is in use or not this machine's. Stop what uses it, or choose "
        f"another with {PREFIX}{setting.upper()} or --{setting.replace('_', '-')}"
    )


def reserve_addresses(settings: Settings) -> Settings:
    """Keep the addresses for several services that share them, until this process ends.

    Answers the settings for each of them, with the ports that were picked. Raises StartError if one is taken.
    """
    wanted = {"grpc_address": settings.grpc, "rest_address": settings.rest, "metrics_address": settings.metrics}
    kept = {name: str(_reserved(name, address)) for name, address in wanted.items() if address}
    return settings.model_copy(update=kept)


def _reserved(name: str, address: Address) -> Address:
    try:
        kept = reserve(address)
    except OSError as error:
        raise cannot_listen(name, address) from error
    port = kept[0].getsockname()[1]
    for each in kept:
        each.detach()
    return Address(address.host, port)


def metrics_folder(settings: Settings) -> str:
    """A new folder in which several services add up their metrics; empty if there are none to add up."""
    if not settings.metrics:
        return ""
    try:
        return tempfile.mkdtemp(prefix="taskwell-metrics-")
    except OSError as error:
        raise StartError(
            f"cannot make a folder for the metrics of several workers: {error}. Name one for temporary files with "
            "TMPDIR, or start with --workers 1"
        ) from error


def prepare_schema(settings: Settings) -> None:
    """Bring the database to the schema of this version, or raise StartError with the command that does.

    SQLite is migrated without asking: nobody else uses the file. A database that does not answer is waited for.
    """
    may_migrate = settings.migrate or isinstance(settings.database, SqliteFile)
    patience = time.monotonic() + settings.database_start_timeout
    while True:
        try:
            schema = Schema(settings.database)
            if may_migrate and schema.current() != schema.newest:
                schema.up()
            schema.verify(makes_users=settings.users == "any")
            return
        except SchemaUnknown as error:
            raise StartError(str(error)) from error
        except DatabaseUnavailable as error:
            if time.monotonic() > patience or isinstance(settings.database, SqliteFile):
                raise StartError(
                    f"cannot reach the database ({settings.database}): check TASKWELL_DATABASE_URL and that the "
                    "database runs; 'taskwell check' prints what it says"
                ) from error
            _log.warning("waiting for the database", database=str(settings.database), cause=_words(error))
            time.sleep(0.5)


def _words(error: DatabaseUnavailable) -> str:
    """What the driver said, for the log, without the statement that SQLAlchemy puts beside it."""
    return str(getattr(error.__cause__, "orig", error.__cause__)).strip()
