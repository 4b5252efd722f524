"""Classifies database errors by SQLSTATE and SQLite's error names, never by message text."""

import sqlite3
from enum import Enum, auto
from typing import Literal, get_args

import psycopg


class Failure(Enum):
    """The meaning of a database error for the request that met it."""

    UNAVAILABLE = auto()
    """The database cannot be reached or cannot work now; whether a write took place may be unknown."""

    NOT_DONE = auto()
    """The database cannot work on this connection and did nothing: safe to repeat on another."""

    LOST = auto()
    """The connection broke under a statement: whether a write took place is unknown; another one may do it."""

    STALE_PLAN = auto()
    """A migration changed a type under a prepared statement, which did nothing: another connection prepares it anew."""

    CONFLICT = auto()
    """Undone because of other transactions: safe to repeat."""

    LOCKED = auto()
    """A lock was not granted in time; nothing was done."""

    FOREIGN_KEY = auto()
    """A row that another one needs is missing."""

    UNUSABLE = auto()
    """A right, a table or a column is missing, whoever asks: an operator has to mend the database."""

    FAULT = auto()
    """Anything else: a fault of ours or of the schema."""


# https://www.postgresql.org/docs/current/errcodes-appendix.html
_BY_SQLSTATE = {
    "23503": Failure.FOREIGN_KEY,
    "25006": Failure.NOT_DONE,  # read-only: the server became a standby
    "26000": Failure.NOT_DONE,  # a pooler gave us a connection that does not know our prepared statement
    "42P05": Failure.NOT_DONE,  # … or one that knows it from somebody else
    "40001": Failure.CONFLICT,  # serialization failure
    "40P01": Failure.CONFLICT,  # deadlock
    "55P03": Failure.LOCKED,  # lock timeout
    "57014": Failure.UNAVAILABLE,  # statement timeout
    "57P01": Failure.UNAVAILABLE,  # the administrator shuts the server down
    "57P02": Failure.UNAVAILABLE,  # the server crashed
    "57P03": Failure.UNAVAILABLE,  # the server starts or stops
    "57P04": Failure.UNAVAILABLE,  # the database was dropped
    "57P05": Failure.UNAVAILABLE,  # idle session timeout
    "25P03": Failure.UNAVAILABLE,  # idle in transaction timeout
    "25P04": Failure.UNAVAILABLE,  # transaction timeout
    "3D000": Failure.UNAVAILABLE,  # no such database
    "3F000": Failure.UNUSABLE,  # no such schema
    "42501": Failure.UNUSABLE,  # the role lacks a right
    "42P01": Failure.UNUSABLE,  # no such table
    "42703": Failure.UNUSABLE,  # no such column
    "42883": Failure.UNUSABLE,  # no such function, or no operator for the types
    "42704": Failure.UNUSABLE,  # no such type
    "42804": Failure.UNUSABLE,  # a column of another type
    "42P10": Failure.UNUSABLE,  # no unique index for ON CONFLICT
}
# Errors whose SQLSTATE stands for many things, by the function of the server that raised them. It is a field of its own
# in every error: https://www.postgresql.org/docs/current/protocol-error-fields.html
_BY_ROUTINE: dict[tuple[str, str | None], Failure] = {
    ("0A000", "RevalidateCachedQuery"): Failure.STALE_PLAN,
    ("XX000", "MarkRemoteTransactionFailed"): Failure.UNAVAILABLE,  # Citus: the server of a shard is away
}
_UNAVAILABLE_CLASSES = (
    "08",  # connection exception
    "28",  # invalid authorization
    "53",  # insufficient resources: disk, memory, connections
    "58",  # system error: I/O
)
_QUOTES_VALUES = "22"  # data exceptions
_ENDS_SESSION = ("FATAL", "PANIC")
PREPARED_STATEMENT_SQLSTATES = frozenset({"26000", "42P05"})

# https://www.sqlite.org/rescode.html
_BY_SQLITE_NAME = {
    "SQLITE_CONSTRAINT_FOREIGNKEY": Failure.FOREIGN_KEY,
    "SQLITE_BUSY": Failure.UNAVAILABLE,
    "SQLITE_CANTOPEN": Failure.UNAVAILABLE,
    "SQLITE_FULL": Failure.UNAVAILABLE,
    "SQLITE_IOERR": Failure.UNAVAILABLE,
    "SQLITE_LOCKED": Failure.UNAVAILABLE,
    "SQLITE_NOMEM": Failure.UNAVAILABLE,
    "SQLITE_PERM": Failure.UNAVAILABLE,
    "SQLITE_PROTOCOL": Failure.UNAVAILABLE,
    "SQLITE_READONLY": Failure.UNAVAILABLE,
}


Trouble = Literal["away", "silent", "locked", "disk_full", "read_only", "unusable"]
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
"""What is wrong with the database, for operators: it refuses or ends connections, it does not respond, another program
holds a lock, its disk is full or fails, it is a standby, it lacks rights, tables or columns."""

# More exact than the classes of Failure, which say what becomes of the call.
_TROUBLE_BY_SQLSTATE: dict[str, Trouble] = {
    "25006": "read_only",
    "53100": "disk_full",
    "55P03": "locked",
    "58030": "disk_full",
}
_TROUBLE_BY_FAILURE: dict[Failure, Trouble] = {
    Failure.LOST: "away",
    Failure.UNAVAILABLE: "away",
    Failure.UNUSABLE: "unusable",
}
_TROUBLE_BY_SQLITE_NAME: dict[str, Trouble] = {
    "SQLITE_BUSY": "locked",
    "SQLITE_FULL": "disk_full",
    "SQLITE_IOERR": "disk_full",
    "SQLITE_LOCKED": "locked",
    "SQLITE_READONLY": "read_only",
}
_CANCELLED = "57014"


class Failed(Exception):
    """A statement failed; the driver's error is the cause."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.name)
        self.failure = failure


class StatementFault(Exception):
    """The database refused a statement: a fault of ours, or a constraint that somebody added.

    Names the driver's error without the details, which may quote rows: they would be logged.
    """

    def __init__(self, error: BaseException) -> None:
        words = str(error)
        if isinstance(error, psycopg.Error):
            words = "" if (error.sqlstate or "").startswith(_QUOTES_VALUES) else error.diag.message_primary or ""
        super().__init__(" ".join(filter(None, (type(error).__name__, sqlstate_of(error), words))))


DRIVER_ERRORS = (psycopg.Error, sqlite3.Error)


def failure_of(error: psycopg.Error | sqlite3.Error, *, lost: bool = False) -> Failure:
    """Classify an error. `lost` says that the connection broke with it."""
    if lost or (isinstance(error, psycopg.Error) and error.diag.severity_nonlocalized in _ENDS_SESSION):
        return Failure.LOST
    return _postgres_failure(error) if isinstance(error, psycopg.Error) else _sqlite_failure(error)


def trouble_of(error: BaseException) -> Trouble | None:
    """The trouble of the database that a failed connect or statement shows; None if there is none."""
    if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
        return "silent"
    if sqlstate_of(error) == _CANCELLED:
        return None
    if isinstance(error, psycopg.Error):
        return _TROUBLE_BY_SQLSTATE.get(error.sqlstate or "") or _TROUBLE_BY_FAILURE.get(failure_of(error))
    if isinstance(error, sqlite3.Error):
        return _TROUBLE_BY_SQLITE_NAME.get(_primary_name(error)) or _TROUBLE_BY_FAILURE.get(failure_of(error))
    return "away" if isinstance(error, OSError) else None


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE of a psycopg error that came from the server."""
    return error.sqlstate if isinstance(error, psycopg.Error) else None


def _postgres_failure(error: psycopg.Error) -> Failure:
    state = error.sqlstate
    if state is None:
        # libpq's own errors have no SQLSTATE: no connection could be made.
        return Failure.UNAVAILABLE if isinstance(error, psycopg.OperationalError) else Failure.FAULT
    if failure := _BY_SQLSTATE.get(state) or _BY_ROUTINE.get((state, error.diag.source_function)):
        return failure
    return Failure.UNAVAILABLE if state.startswith(_UNAVAILABLE_CLASSES) else Failure.FAULT


def _sqlite_failure(error: sqlite3.Error) -> Failure:
    name = getattr(error, "sqlite_errorname", None) or ""
    return _BY_SQLITE_NAME.get(name) or _BY_SQLITE_NAME.get(_primary_name(error)) or Failure.FAULT


def _primary_name(error: sqlite3.Error) -> str:
    """The name of a class of errors: extended names refine primary ones, as SQLITE_IOERR_WRITE does SQLITE_IOERR."""
    return "_".join((getattr(error, "sqlite_errorname", None) or "").split("_")[:2])
