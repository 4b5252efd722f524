"""Create users and tasks.

The columns are written out and not imported from the service, whose tables change later. Locks nothing: the tables are
new.
"""

import sqlalchemy as sa
from alembic import op

revision = "20261121"
down_revision = None
branch_labels = None
depends_on = None
compatible_from = "20261121"


def upgrade() -> None:
    user_id = sa.String(255, collation="C").with_variant(sa.String(255), "sqlite")
    task_id = sa.Uuid(as_uuid=False).with_variant(sa.String(36), "sqlite")
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "users",
        sa.Column("id", user_id, nullable=False),
        sa.Column("created_at", moment, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("users_pkey")),
        sa.CheckConstraint("length(id) BETWEEN 1 AND 255", name=op.f("users_id_length_check")),
    )
    op.create_table(
        "tasks",
        sa.Column("user_id", user_id, nullable=False),
        sa.Column("id", task_id, nullable=False),
        sa.Column("title", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("status", sa.SmallInteger, nullable=False, comment="1 incomplete, 2 complete"),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("request_id", task_id),
        sa.Column("request_digest", sa.String(64), comment="SHA-256 of the content, in hexadecimal"),
        sa.Column("created_at", moment, nullable=False),
        sa.Column("updated_at", moment, nullable=False),
        sa.Column("completed_at", moment),
        sa.PrimaryKeyConstraint("user_id", "id", name=op.f("tasks_pkey")),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("tasks_user_id_fkey"), ondelete="CASCADE"),
        sa.CheckConstraint("length(title) BETWEEN 1 AND 255", name=op.f("tasks_title_length_check")),
        sa.CheckConstraint("length(description) <= 5000", name=op.f("tasks_description_length_check")),
        sa.CheckConstraint("status IN (1, 2)", name=op.f("tasks_status_set_check")),
        sa.CheckConstraint("(status = 2) = (completed_at IS NOT NULL)", name=op.f("tasks_complete_has_time_check")),
        sa.CheckConstraint(
            "(request_id IS NULL) = (request_digest IS NULL)", name=op.f("tasks_request_has_digest_check")
        ),
    )
    # Most tasks have no request_id: an index of all would have an entry for each of these too, 15 bytes a task.
    has_request = sa.text("request_id IS NOT NULL")
    op.create_index(
        op.f("tasks_user_id_request_id_key"),
        "tasks",
        ["user_id", "request_id"],
        unique=True,
        postgresql_where=has_request,
        sqlite_where=has_request,
    )
    newest_first = [sa.text("created_at DESC"), sa.text("id DESC")]
    op.create_index(op.f("tasks_newest_idx"), "tasks", ["user_id", *newest_first])
    op.create_index(op.f("tasks_status_newest_idx"), "tasks", ["user_id", "status", *newest_first])


def downgrade() -> None:
    op.drop_table("tasks")
    op.drop_table("users")
