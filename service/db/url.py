"""Parses database URLs: a file for SQLite, a libpq connection string for PostgreSQL."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

# SQLAlchemy and libpq are imported in functions: `taskwell health`, which runs every few seconds, needs neither.

# Defaults for libpq that the URL can override. With them a dead peer is noticed within half a minute, and not after the
# two hours of the system's defaults.
_LIBPQ_DEFAULTS = {
    "application_name": "taskwell",
    "connect_timeout": "10",  # s; a suspended Neon compute answers within a few
    "keepalives_idle": "30",  # s
    "keepalives_interval": "5",  # s
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",  # ms
}
_SECRETS = ("password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key")


@dataclass(frozen=True, slots=True)
class SqliteFile:
    """An SQLite database in a file."""

    path: Path

    @property
    def attributes(self) -> dict[str, str | int]:
        """Attributes for traces, as the semantic conventions for database spans have them."""
        return {"db.system.name": "sqlite"}

    def __str__(self) -> str:
        return f"sqlite:///{self.path}"


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A PostgreSQL database; `conninfo` is a libpq connection string and may hold a password."""

    conninfo: str

    @property
    def attributes(self) -> dict[str, str | int]:
        """Attributes for traces: the name of the database and, if there is only one, its server."""
        from psycopg.conninfo import conninfo_to_dict

        known = conninfo_to_dict(self.conninfo)
        name, host, port = (str(known.get(key, "")) for key in ("dbname", "host", "port"))
        found: dict[str, str | int] = {"db.system.name": "postgresql"}
        if name:
            found["db.namespace"] = name
        if host and "," not in host:
            found |= {"server.address": host, "server.port": int(port or 5432)}
        return found

    def __str__(self) -> str:
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        known = conninfo_to_dict(self.conninfo)
        shown = {
            key: "***" if key in _SECRETS else value
            for key, value in known.items()
            if key not in (*_LIBPQ_DEFAULTS, "client_encoding")
        }
        return f"postgresql {make_conninfo('', **shown)}"


DatabaseUrl = SqliteFile | PostgresServer


def parse_database_url(text: str) -> DatabaseUrl:
    """Read a URL in SQLAlchemy's form (`sqlite:///file`, `postgresql+psycopg://…`) or in any form that libpq takes.

    Raises ValueError with a sentence for whoever set it; the sentence never holds the URL, which may hold a password.
    """
    scheme, separator, rest = text.partition("://")
    if scheme in {"sqlite", "sqlite+aiosqlite"}:
        return _sqlite(rest)
    if scheme == "postgresql+psycopg":
        return _postgres(_from_sqlalchemy(text))
    if scheme == "postgres":
        return _postgres({"dsn": f"postgresql://{rest}"})
    if scheme == "postgresql" or (not separator and "=" in text):
        return _postgres({"dsn": text})
    raise ValueError(
        "must start with sqlite:/// (a file), postgresql:// or postgres://, or be a libpq connection string such as "
        "'host=db.example dbname=tasks'"
    )


def _sqlite(rest: str) -> SqliteFile:
    host, _, place = rest.partition("/")
    file, question_mark, _ = place.partition("?")
    if host:
        raise ValueError("names a host: write sqlite:///relative.db or sqlite:////absolute/path.db")
    if file in {"", ":memory:"} or file.startswith("file:"):
        raise ValueError("must name a file, sqlite:///taskwell.db for one: tasks in memory would be lost at the end")
    if question_mark:
        raise ValueError("takes no parameters after '?' for SQLite")
    return SqliteFile(Path(unquote(file)))


def _from_sqlalchemy(text: str) -> dict[str, Any]:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
        arguments = dict(url.get_dialect()().create_connect_args(url)[1])
    except (ArgumentError, ValueError):
        raise ValueError("is not a URL that SQLAlchemy understands") from None
    return arguments


def _postgres(arguments: dict[str, Any]) -> PostgresServer:
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict, make_conninfo

    dsn = arguments.pop("dsn", "")
    try:
        known = conninfo_to_dict(dsn, **arguments)
    except ProgrammingError:
        # libpq's words may quote parts of the URL.
        raise ValueError(
            "is not a connection string that libpq understands: it may have a parameter that libpq does not know, or "
            "a user name or password with a character such as @ : / ? % that is not percent-encoded"
        ) from None
    if not all(port.isdigit() for port in str(known.get("port", "5432")).split(",")):
        raise ValueError("has a port that is not a number")
    return PostgresServer(make_conninfo("", **{**_LIBPQ_DEFAULTS, **known, "client_encoding": "utf8"}))
