"""Alembic environment: migrates in one transaction, one process at a time."""

from alembic import context
from sqlalchemy import text

from service.db.tables import metadata

# An arbitrary number, the same in all versions.
LOCK = 0x7A5C_0E11

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_server_default=True,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by making a new one
    transactional_ddl=True,
)
with context.begin_transaction():
    if connection.dialect.name == "postgresql":
        # Held until the end of the transaction, so that it works behind a transaction pooler. Other processes wait here
        # and then find nothing to do. On SQLite, BEGIN IMMEDIATE has the same effect.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    context.run_migrations()
