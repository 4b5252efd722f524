"""Alembic environment: migrates in one transaction, one process at a time."""

from collections.abc import Collection

from alembic import context
from sqlalchemy import text
from sqlalchemy.schema import CreateTable

from service.db.tables import metadata, taskwell_schema

# An arbitrary number, the same in all versions.
LOCK = 0x7A5C_0E11


def record_compatibility(*, heads: Collection[str], **_: object) -> None:
    """With each step, store the oldest version that can serve (docs/operations/postgres-and-neon.md)."""
    context.execute(CreateTable(taskwell_schema, if_not_exists=True))
    context.execute(taskwell_schema.delete())
    for revision in heads:
        compatible_from = context.script.get_revision(revision).module.compatible_from
        context.execute(taskwell_schema.insert().values(revision=revision, compatible_from=compatible_from))


# Without a connection, alembic writes SQL instead of executing it (tools/check_schema.py).
connection = context.config.attributes.get("connection")
dialect = connection.dialect.name if connection else "postgresql"
context.configure(
    connection=connection,
    dialect_name=dialect,
    literal_binds=connection is None,
    target_metadata=metadata,
    compare_server_default=True,
    render_as_batch=dialect == "sqlite",  # SQLite alters a table by making a new one
    transactional_ddl=True,
    on_version_apply=record_compatibility,  # type: ignore[arg-type]  # called with keywords, of which it takes one
)
with context.begin_transaction():
    if dialect == "postgresql":
        # Held until the end of the transaction, so that it works behind a transaction pooler. Other processes wait here
        # and then find nothing to do. On SQLite, BEGIN IMMEDIATE has the same effect.
        context.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
        # While a migration waits for a lock on a table, every call to that table waits behind it. After this time the
        # migration gives up, and Schema.up tries again.
        context.execute(text("SET LOCAL lock_timeout = '1s'"))
    context.run_migrations()
