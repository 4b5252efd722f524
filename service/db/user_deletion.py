"""Deletion of a user with all tasks, for good."""

from typing import NamedTuple

from service.db.session import Session, open_session
from service.db.url import DatabaseUrl

_CHUNK = 5_000
"""Tasks that are deleted in one transaction, so that none is long: calls of others go on."""

# Each statement names the user, so that a distributed database sends it to one node.
_COUNT = "SELECT count(*) FROM tasks WHERE tasks.user_id = :user_id"
_FIND = "SELECT 1 FROM users WHERE users.id = :user_id"
_DELETE_CHUNK = (
    "DELETE FROM tasks WHERE tasks.user_id = :user_id"
    " AND id IN (SELECT id FROM tasks WHERE tasks.user_id = :user_id ORDER BY id LIMIT :chunk)"
)
_DELETE_TASKS = "DELETE FROM tasks WHERE tasks.user_id = :user_id"
_DELETE_USER = "DELETE FROM users WHERE users.id = :user_id"


class Deleted(NamedTuple):
    """The rows that were deleted."""

    users: int
    tasks: int


def count_tasks(url: DatabaseUrl, user_id: str) -> int | None:
    """The number of tasks of a user; None if there is no such user."""
    with open_session(url) as session:
        if not session.fetch(_FIND, {"user_id": user_id}):
            return None
        [(count,)] = session.fetch(_COUNT, {"user_id": user_id})
        return int(count)


def delete_user(url: DatabaseUrl, user_id: str) -> Deleted:
    """Delete the tasks of a user in chunks, and then the user. If it is interrupted, another run deletes the rest."""
    user = {"user_id": user_id}
    with open_session(url) as session:
        if not session.is_postgres:
            session.fetch("PRAGMA secure_delete = ON")  # overwrite the content, which else stays in free pages
        deleted = 0
        while chunk := session.in_transaction(lambda: session.change(_DELETE_CHUNK, {**user, "chunk": _CHUNK})):
            deleted += chunk
        rest = session.in_transaction(lambda: _delete_rest(session, user))
        if not session.is_postgres:
            session.fetch("PRAGMA wal_checkpoint(TRUNCATE)")  # the write-ahead log still has the content
        return Deleted(rest.users, deleted + rest.tasks)


def _delete_rest(session: Session, user: dict[str, str]) -> Deleted:
    """Delete the user, and the tasks that were created since the last chunk."""
    if session.is_postgres:
        session.fetch(f"{_FIND} FOR UPDATE", user)  # from here on, new tasks of the user wait
    tasks = session.change(_DELETE_TASKS, user)
    return Deleted(session.change(_DELETE_USER, user), tasks)
