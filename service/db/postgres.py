"""PostgreSQL connections by psycopg: connect, check, run statements, cancel, close. Every wait has a limit."""

import asyncio
import os
import select
import socket
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import Diagnostic
from sqlalchemy import Dialect, make_url

from service.db.compiled_statement import CompiledStatement, Parameters, Row
from service.db.url import PostgresServer

Connection = psycopg.AsyncConnection[Any]

_PING_LIMIT = 1.0
"""Time limit of the ping of an idle connection (s)."""
_CANCEL_LIMIT = 1.0
"""Time limit of a request to cancel a statement (s)."""
_LOOKUP_LIMIT = 5.0
"""Time limit of looking up host names, on top of the connect timeout of each host (s)."""


# PostgreSQL warns so when it ends the wait for a synchronous standby, and then reports success. It is the name of the
# function that warns, a field of its own: https://www.postgresql.org/docs/current/protocol-error-fields.html
_UNREPLICATED = "SyncRepWaitForLSN"


class NotReplicated(OSError):
    """A write was committed, but no synchronous standby has confirmed it: a failover may lose it."""


class Postgres:
    """The driver of one PostgreSQL database."""

    def __init__(self, url: PostgresServer, *, prepare: Literal["auto", "always", "never"]) -> None:
        self.dialect: Dialect = make_url("postgresql+psycopg://").get_dialect()()
        self.prepares = prepare != "never"
        """Prepare statements on new connections."""
        self._verifies_session = prepare == "auto"
        self._conninfo = url.conninfo
        self._unreplicated: set[int] = set()
        known = conninfo_to_dict(url.conninfo)
        hosts = str(known.get("host") or known.get("hostaddr") or "").count(",") + 1
        self._connect_limit = int(known.get("connect_timeout") or 10) * hosts + _LOOKUP_LIMIT

    async def connect(self) -> Connection:
        """Open a connection."""
        async with asyncio.timeout(self._connect_limit):
            connection = await psycopg.AsyncConnection.connect(
                self._conninfo, autocommit=True, prepare_threshold=5 if self.prepares else None
            )
            connection.add_notice_handler(partial(self._see_notice, id(connection)))
            try:
                if self.prepares and self._verifies_session and not await _is_own_session(connection):
                    connection.prepare_threshold = None
            except BaseException:
                self.close(connection)
                raise
            return connection

    def is_usable(self, connection: Connection) -> bool:
        """True unless the server has sent something: on an idle connection that means that it closed it."""
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        return not poll.poll(0)

    async def ping(self, connection: Connection) -> None:
        """Make a round trip; a connection whose server does not respond within a second is broken."""
        timer = asyncio.get_running_loop().call_later(_PING_LIMIT, self.hang_up, connection)
        try:
            await connection.execute("SELECT 1", prepare=False)
        finally:
            timer.cancel()

    async def run(
        self, connection: Connection, statements: Sequence[CompiledStatement], parameters: Parameters
    ) -> Sequence[Row]:
        """Run one statement, which is its own transaction: one round trip, no BEGIN and no COMMIT.

        Raises NotReplicated if the statement was cancelled while it waited for a standby.
        """
        [statement] = statements
        rows = statement.read(await self.fetch(connection, statement.text, statement.bound(parameters)))
        if self._unreplicated and id(connection) in self._unreplicated:
            self._unreplicated.discard(id(connection))
            raise NotReplicated("a statement was cancelled while it waited for a synchronous standby")
        return rows

    def _see_notice(self, connection_id: int, notice: Diagnostic) -> None:
        if notice.source_function == _UNREPLICATED:
            self._unreplicated.add(connection_id)

    async def fetch(self, connection: Connection, text: str, parameters: Parameters | None = None) -> Iterable[Row]:
        """Run a text and answer its rows, which it need not have."""
        cursor = await connection.cursor().execute(text, parameters)
        return await cursor.fetchall() if cursor.description else ()

    async def cancel(self, connection: Connection) -> None:
        """Ask the server to end the statement that runs on a connection."""
        with suppress(psycopg.Error, OSError):
            await connection.cancel_safe(timeout=_CANCEL_LIMIT)

    def hang_up(self, connection: Connection) -> None:
        """Break a connection: what waits for the server fails at once."""
        # Not by closing the descriptor: a new connection could get its number while the old one is still waited for.
        with suppress(psycopg.Error, OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)

    def is_lost(self, connection: Connection) -> bool:
        """True once the driver knows that the connection is broken."""
        return connection.closed

    def close(self, connection: Connection) -> None:
        """Close a connection that nothing waits for."""
        self._unreplicated.discard(id(connection))
        connection.pgconn.finish()

    async def wait_closed(self) -> None:
        """Return at once: closing takes no time."""


async def _is_own_session(connection: Connection) -> bool:
    """True if no pooler stands between: one that shares sessions tells its clients process ids of its own.

    Every client names its prepared statements alike. In a session that several of them share, a name could stand for
    the statement of another one, and that would be run with our parameters.
    """
    cursor = await connection.execute("SELECT pg_backend_pid()", prepare=False)
    return await cursor.fetchone() == (connection.info.backend_pid,)
