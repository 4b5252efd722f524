"""Startup: reserve addresses, migrate or verify the schema, create the folder for metrics."""

import platform
import tempfile
import time
from importlib.metadata import version

import structlog

from service.address import Address
from service.config.masked import masked
from service.config.names import PREFIX
from service.config.settings import Settings
from service.db.schema import LOCK_PAUSE, Schema, SchemaLocked, SchemaUnknown
from service.db.url import SqliteFile
from service.errors import DatabaseUnavailable
from service.server.sockets import reserve

_log = structlog.get_logger("app")


class StartError(Exception):
    """The service cannot start; the message says why and what to do."""


def log_start(settings: Settings) -> None:
    """Log the versions and the effective settings; secrets are masked."""
    versions = {name: version(name) for name in ("taskwell", "grpcio")}
    _log.info("starting", python=platform.python_version(), **versions, settings=masked(settings))


def cannot_listen(setting: str, address: Address) -> StartError:
    return StartError(
        f"cannot listen on {address}: the address is in use or not this machine's. Stop the program that uses it, or "
        f"choose another address with {PREFIX}{setting.upper()} or --{setting.replace('_', '-')}"
    )


def reserve_addresses(settings: Settings) -> Settings:
    """Reserve the addresses for several workers until this process exits.

    Returns the settings for the workers, with the actual ports. Raises StartError if an address is in use.
    """
    wanted = {"grpc_address": settings.grpc, "rest_address": settings.rest, "metrics_address": settings.metrics}
    reserved = {name: str(_reserved(name, address)) for name, address in wanted.items() if address}
    return settings.model_copy(update=reserved)


def _reserved(name: str, address: Address) -> Address:
    try:
        sockets = reserve(address)
    except OSError as error:
        raise cannot_listen(name, address) from error
    port = sockets[0].getsockname()[1]
    for each in sockets:
        each.detach()  # stays open without a Python object, until the process exits
    return Address(address.host, port)


def make_metrics_folder(settings: Settings) -> str:
    """Create the folder in which workers share their metrics and return its path; empty if metrics are off."""
    if not settings.metrics:
        return ""
    try:
        return tempfile.mkdtemp(prefix="taskwell-metrics-")
    except OSError as error:
        raise StartError(
            f"cannot create a folder for the metrics of several workers: {error}. Set TMPDIR to a folder for "
            "temporary files, or start with --workers 1"
        ) from error


def prepare_schema(settings: Settings) -> Settings:
    """Migrate or verify the schema, and wait for a database that is unavailable or locked.

    SQLite is always migrated: no other program uses the file. Returns the settings, in which `database_distributed` is
    what the database says where it was `auto`. Raises StartError if this version cannot serve from the schema; the
    message says what to do.
    """
    may_migrate = settings.migrate or isinstance(settings.database, SqliteFile)
    deadline = time.monotonic() + settings.database_start_timeout
    while True:
        try:
            schema = Schema(settings.database, lock_timeout=0)
            if may_migrate:
                schema.up()
            schema.verify(makes_users=settings.users == "any")
            if settings.database_distributed != "auto":
                return settings
            is_distributed = "true" if schema.is_distributed() else "false"
            return settings.model_copy(update={"database_distributed": is_distributed})
        except SchemaLocked as error:
            if time.monotonic() > deadline:
                raise StartError(str(error)) from error
            _log.warning("waiting for the database", database=str(settings.database), cause=str(error))
            time.sleep(LOCK_PAUSE)
        except SchemaUnknown as error:
            raise StartError(str(error)) from error
        except DatabaseUnavailable as error:
            if time.monotonic() > deadline or isinstance(settings.database, SqliteFile):
                raise StartError(
                    f"cannot reach the database ({settings.database}): check TASKWELL_DATABASE_URL and that the "
                    "database is running; 'taskwell check' prints the database's own message"
                ) from error
            _log.warning("waiting for the database", database=str(settings.database), cause=_driver_message(error))
            time.sleep(0.5)


def _driver_message(error: DatabaseUnavailable) -> str:
    """Return the driver's message for the log, without the statement that SQLAlchemy adds."""
    return str(getattr(error.__cause__, "orig", error.__cause__)).strip()
