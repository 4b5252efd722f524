"""The tables for SQLAlchemy Core. Migrations create them; `make check` compares the two."""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    TypeDecorator,
    Uuid,
)
from sqlalchemy.types import TypeEngine

from service.tasks.validation import DESCRIPTION_MAX, TITLE_MAX

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
    }
)


class UtcDateTime(TypeDecorator[datetime]):
    """A time in UTC with microseconds: `timestamptz` on PostgreSQL, sortable text on SQLite.

    SQLite has no time zones and returns naive values, to which UTC is added. PostgreSQL returns values in the time zone
    of the session, which the defaults of a database or a role may have changed; they are converted to UTC.
    """

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - SQLAlchemy's signature
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


# User ids are compared byte by byte, whatever the locale. SQLite does so by default.
UserId: TypeEngine[str] = String(255, collation="C").with_variant(String(255), "sqlite")
TaskId: TypeEngine[str] = Uuid(as_uuid=False).with_variant(String(36), "sqlite")

# One row: the revision of the schema, and the oldest revision whose version of the service can serve from it.
# migrations/env.py writes it with each step.
taskwell_schema = Table(
    "taskwell_schema",
    metadata,
    Column("revision", String(32), primary_key=True),
    Column("compatible_from", String(32), nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", UserId, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
    CheckConstraint("length(id) BETWEEN 1 AND 255", name="id_length"),
)

tasks = Table(
    "tasks",
    metadata,
    Column("user_id", UserId, ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("id", TaskId, nullable=False),
    Column("title", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("status", SmallInteger, nullable=False, comment="1 incomplete, 2 complete"),
    Column("version", BigInteger, nullable=False),
    Column("request_id", TaskId),
    Column("request_digest", String(64), comment="SHA-256 of the content, in hexadecimal"),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("completed_at", UtcDateTime),
    PrimaryKeyConstraint("user_id", "id"),
    CheckConstraint(f"length(title) BETWEEN 1 AND {TITLE_MAX}", name="title_length"),
    CheckConstraint(f"length(description) <= {DESCRIPTION_MAX}", name="description_length"),
    CheckConstraint("status IN (1, 2)", name="status_set"),
    CheckConstraint("(status = 2) = (completed_at IS NOT NULL)", name="complete_has_time"),
    CheckConstraint("(request_id IS NULL) = (request_digest IS NULL)", name="request_has_digest"),
)

_HAS_REQUEST = tasks.c.request_id.is_not(None)
Index(
    "tasks_user_id_request_id_key",
    tasks.c.user_id,
    tasks.c.request_id,
    unique=True,
    postgresql_where=_HAS_REQUEST,
    sqlite_where=_HAS_REQUEST,
)
Index("tasks_newest_idx", tasks.c.user_id, tasks.c.created_at.desc(), tasks.c.id.desc())
Index("tasks_status_newest_idx", tasks.c.user_id, tasks.c.status, tasks.c.created_at.desc(), tasks.c.id.desc())
