"""Tell PostgreSQL's planner that a user has about twenty tasks, whatever ANALYZE finds.

Where most users have one task, ANALYZE finds about as many users as tasks. The planner then takes an index on `user_id`
alone to be as selective as the primary key, and reads all tasks of a user to find one by its id. The setting takes
effect at the next ANALYZE, which autovacuum runs. PostgreSQL holds a SHARE UPDATE EXCLUSIVE lock on `tasks` for a
moment: reads and writes go on. SQLite has no such setting and needs none.
"""

from alembic import op

revision = "20261127"
down_revision = "20261121"
branch_labels = None
depends_on = None
compatible_from = "20261121"


def upgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE tasks ALTER COLUMN user_id SET (n_distinct = -0.05)")


def downgrade() -> None:
    if op.get_context().dialect.name == "postgresql":
        op.execute("ALTER TABLE tasks ALTER COLUMN user_id RESET (n_distinct)")
