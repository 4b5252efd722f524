"""Classification of the drivers' errors, by SQLSTATE and by SQLite's error names."""

import sqlite3

import psycopg
import pytest
from psycopg import errors

from service.db.driver_errors import TROUBLES, Failure, Trouble, failure_of, trouble_of
from service.metrics.series import DATABASE_FAILURES, rows_of


@pytest.mark.parametrize(
    ("sqlstate", "failure"),
    [
        ("40001", Failure.CONFLICT),
        ("40P01", Failure.CONFLICT),
        ("25006", Failure.NOT_DONE),
        ("26000", Failure.NOT_DONE),
        ("42P05", Failure.NOT_DONE),
        ("23503", Failure.FOREIGN_KEY),
        ("23505", Failure.FAULT),
        ("3F000", Failure.UNUSABLE),
        ("42501", Failure.UNUSABLE),
        ("42P01", Failure.UNUSABLE),
        ("42703", Failure.UNUSABLE),
        ("42704", Failure.UNUSABLE),
        ("42804", Failure.UNUSABLE),
        ("42883", Failure.UNUSABLE),
        ("42P10", Failure.UNUSABLE),
        ("42601", Failure.FAULT),
        ("53100", Failure.UNAVAILABLE),  # disk full
        ("53300", Failure.UNAVAILABLE),  # too many connections
        ("08006", Failure.UNAVAILABLE),
        ("28P01", Failure.UNAVAILABLE),
        ("57P03", Failure.UNAVAILABLE),
    ],
)
def test_postgresql_errors_are_classified_by_sqlstate(sqlstate: str, failure: Failure) -> None:
    assert failure_of(errors.lookup(sqlstate)()) is failure
    assert failure_of(errors.lookup(sqlstate)(), lost=True) is Failure.LOST


def test_postgresql_errors_without_sqlstate_are_failures_to_connect_or_faults() -> None:
    assert failure_of(psycopg.OperationalError("connection refused")) is Failure.UNAVAILABLE
    assert failure_of(psycopg.ProgrammingError()) is Failure.FAULT


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("SQLITE_BUSY", Failure.UNAVAILABLE),
        ("SQLITE_BUSY_SNAPSHOT", Failure.UNAVAILABLE),
        ("SQLITE_CANTOPEN_ISDIR", Failure.UNAVAILABLE),
        ("SQLITE_FULL", Failure.UNAVAILABLE),
        ("SQLITE_IOERR", Failure.UNAVAILABLE),
        ("SQLITE_IOERR_WRITE", Failure.UNAVAILABLE),
        ("SQLITE_IOERR_DELETE_NOENT", Failure.UNAVAILABLE),
        ("SQLITE_READONLY_DBMOVED", Failure.UNAVAILABLE),
        ("SQLITE_CONSTRAINT_FOREIGNKEY", Failure.FOREIGN_KEY),
        ("SQLITE_CONSTRAINT_UNIQUE", Failure.FAULT),
        ("SQLITE_CORRUPT", Failure.FAULT),
        (None, Failure.FAULT),
    ],
)
def test_sqlite_errors_are_classified_by_primary_and_extended_names(name: str | None, failure: Failure) -> None:
    error = sqlite3.OperationalError("database is locked")  # the message decides nothing
    if name:
        error.sqlite_errorname = name
    assert failure_of(error) is failure


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (psycopg.OperationalError("connection refused"), "away"),
        (ConnectionRefusedError(), "away"),
        (errors.lookup("57P01")(), "away"),
        (errors.lookup("28P01")(), "away"),
        (errors.lookup("53300")(), "away"),
        (TimeoutError(), "silent"),
        (errors.ConnectionTimeout(), "silent"),
        (errors.lookup("55P03")(), "locked"),
        (errors.lookup("53100")(), "disk_full"),
        (errors.lookup("58030")(), "disk_full"),
        (errors.lookup("25006")(), "read_only"),
        (errors.lookup("42P01")(), "unusable"),
        (errors.lookup("57014")(), None),  # we cancel statements whose callers have gone
        (errors.lookup("40001")(), None),
        (errors.lookup("23503")(), None),
        (psycopg.ProgrammingError(), None),
    ],
)
def test_errors_tell_operators_what_is_wrong_with_postgresql(error: Exception, trouble: Trouble | None) -> None:
    assert trouble_of(error) == trouble


@pytest.mark.parametrize(
    ("name", "trouble"),
    [
        ("SQLITE_BUSY_SNAPSHOT", "locked"),
        ("SQLITE_FULL", "disk_full"),
        ("SQLITE_IOERR_WRITE", "disk_full"),
        ("SQLITE_READONLY_DBMOVED", "read_only"),
        ("SQLITE_CANTOPEN", "away"),
        ("SQLITE_CONSTRAINT_UNIQUE", None),
    ],
)
def test_errors_tell_operators_what_is_wrong_with_sqlite(name: str, trouble: Trouble | None) -> None:
    error = sqlite3.OperationalError()
    error.sqlite_errorname = name
    assert trouble_of(error) == trouble


def test_metrics_have_a_cause_for_each_trouble() -> None:
    rows = rows_of([DATABASE_FAILURES])
    assert [labels for _, labels in rows] == [(trouble,) for trouble in TROUBLES]
