"""What Alembic runs: the whole way to a revision in one transaction, by one process at a time."""

from alembic import context
from sqlalchemy import text

from service.db.tables import metadata

# Any number will do as long as it is always the same one.
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
        # Held to the end of the transaction and no longer, so that it holds behind a transaction pooler too. Who comes
        # later waits here, then finds the work done. On SQLite, BEGIN IMMEDIATE does the same.
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK})
    context.run_migrations()
