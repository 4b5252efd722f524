"""The settings: each with its type, default and description. Read once, then frozen.

consistency.py has the checks across settings.
"""

import sys
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.address import Address, parse_address
from service.auth.jwks import JwksSource, parse_jwks_source
from service.auth.modes import RULES, Rule
from service.config.consistency import contradictions
from service.config.cpus import usable_cpus
from service.config.field_types import (
    AddressText,
    Count,
    HostsText,
    JwksText,
    Name,
    OriginsText,
    Seconds,
    listed,
)
from service.config.names import ENV_FILE, PREFIX
from service.db.url import DatabaseUrl, PostgresServer, parse_database_url
from service.log import UserIds
from service.tls.files import CertificateFiles

# At least as long as the output of HS256 (RFC 7518, 3.2), in bytes.
_MIN_SECRET_BYTES = 32

_MAX_WORKERS = 256
# Elsewhere, one of several sockets on a port with SO_REUSEPORT gets all connections.
_SPREADS_CONNECTIONS = sys.platform == "linux"


class Settings(BaseSettings):
    """Each setting is an environment variable (its name in capitals, prefixed with TASKWELL_) and a flag."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",  # .env may have variables of other programs
        frozen=True,
        hide_input_in_errors=True,  # an input may be a secret
        cli_exit_on_error=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    grpc_address: AddressText = Field(
        "127.0.0.1:50051", description="Address to serve gRPC on, host:port; port 0 picks a free port"
    )
    rest_address: AddressText | None = Field(
        None, description="Address to serve REST (JSON over HTTP/1.1) on, host:port. Unset: REST is off"
    )
    rest_hosts: HostsText | None = Field(
        None,
        description="Host names that REST requests may use (header Host), separated by commas, or * for any; others "
        "are refused with 421. Unset: localhost only, where x-user-id is trusted on a loopback address, else any",
    )
    rest_cors_origins: OriginsText | None = Field(
        None,
        description="Origins (https://app.example.com) whose web pages may call REST from a browser (CORS), separated "
        "by commas, or * for any. Unset: none",
    )
    metrics_address: AddressText | None = Field(
        None,
        description="Address to serve Prometheus metrics and the probes /livez and /readyz on, over plain HTTP, "
        "host:port. Unset: off",
    )
    workers: Literal["auto"] | int = Field(
        "auto", description="Number of server processes; auto is one per CPU on PostgreSQL (on Linux), else 1"
    )
    worker_timeout: Annotated[float, Field(ge=3, le=86_400)] = Field(
        10,
        description="Time after which one of several workers is killed and replaced if its event loop does not run (s)",
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///taskwell.db"),
        description="Database: sqlite:///FILE, or PostgreSQL as an SQLAlchemy URL or a libpq connection string",
    )
    migrate: bool = Field(
        False, description="Migrate the schema on PostgreSQL before serving; on SQLite this is always done"
    )
    auth: Literal["metadata", "jwt"] = Field(
        "metadata",
        description="Authentication of callers: metadata trusts the header x-user-id, which a mesh or gateway must "
        "set; jwt verifies signed tokens",
    )
    jwt_jwks: JwksText | None = Field(
        None, description="URL or file of the token issuer's public keys (a JWKS with EdDSA, ES256 or RS256 keys)"
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Shared secret that tokens are signed with (HS256), at least 32 bytes; in place of a JWKS"
    )
    jwt_issuer: str | None = Field(
        None, description="Issuer (iss) that tokens must have; required with TASKWELL_AUTH=jwt"
    )
    jwt_audience: str | None = Field(
        None, description="Audience (aud) that tokens must have; required with TASKWELL_AUTH=jwt"
    )
    jwt_scope_claim: Name | None = Field(
        None, description="Claim that lists a token's scopes, for example scope. Unset: scopes are not checked"
    )
    jwt_read_scope: Name = Field("tasks.read", description="Scope required for GetTask and ListTasks")
    jwt_write_scope: Name = Field("tasks.write", description="Scope required for the methods that change tasks")
    trust_network: bool = Field(
        False,
        description="Allow TASKWELL_AUTH=metadata on an address that other machines can reach: each of them can then "
        "claim to be any user",
    )
    tls_cert: str | None = Field(
        None, description="Server certificate, followed by its intermediates: a PEM file. Unset: no TLS"
    )
    tls_key: str | None = Field(None, description="Private key of TASKWELL_TLS_CERT: a PEM file")
    tls_client_ca: str | None = Field(
        None,
        description="CA of client certificates: a PEM file. Turns on mutual TLS: only clients with a certificate of "
        "this CA can connect",
    )
    tls_client_names: str | None = Field(
        None,
        description="Services that may call, by a DNS name or URI (SPIFFE id) in their certificate, separated by "
        "commas; calls of others are PERMISSION_DENIED",
    )
    health_ca: str | None = Field(
        None,
        description="CA that 'taskwell health' verifies the server with: a PEM file. Unset: TASKWELL_TLS_CERT itself",
    )
    health_cert: str | None = Field(
        None,
        description="Client certificate of 'taskwell health' for mutual TLS: a PEM file. Unset: TASKWELL_TLS_CERT",
    )
    health_key: str | None = Field(None, description="Private key of TASKWELL_HEALTH_CERT: a PEM file")
    users: Literal["any", "known"] = Field(
        "any",
        description="Users that may call: any, created with their first task; or known, those with a row in the table "
        "users (calls of others are PERMISSION_DENIED)",
    )
    reflection: Literal["open", "caller", "off"] = Field(
        "open",
        description="Server reflection: open serves it to everybody, and /docs and /openapi.json over REST; caller "
        "serves it to authenticated callers; off serves none",
    )
    channelz: bool = Field(
        False,
        description="Serve grpc.channelz.v1.Channelz to authenticated callers, for debugging: it shows the connections "
        "of all clients, with their addresses and counts of streams and messages",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Lowest level of log lines to write; debug writes one for each successful call too"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="Format of the log on standard error; auto is console on a terminal, else json"
    )
    log_slow_calls: Seconds = Field(
        1, description="Duration from which on a call is logged as slow, with the time that each phase took (s)"
    )
    log_success_sample: Annotated[float, Field(ge=0, le=1)] = Field(
        0, description="Share of the successful calls that are logged at level info, from 0 to 1"
    )
    log_user_ids: UserIds = Field(
        "plain", description="User ids in the log: plain, hashed (the same hash for a user everywhere), or none"
    )

    coalesce: bool = Field(
        True, description="Send concurrent calls to the database in batches; false sends a statement for each call"
    )
    max_in_flight: Count = Field(
        256,
        description="Maximum task calls in flight in each worker; further calls wait for up to a second, and are then "
        "RESOURCE_EXHAUSTED",
    )
    rate_limit: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = Field(
        None,
        description="Maximum calls per second of each user, counted in each worker separately; further calls are "
        "RESOURCE_EXHAUSTED. Unset: no rate limit",
    )
    rate_burst: Count | None = Field(
        None, description="Calls that a user may make at once before the rate limit applies. Unset: those of one second"
    )
    max_call_seconds: Seconds = Field(
        30, description="Maximum duration of a call, whatever its deadline (s); then it is DEADLINE_EXCEEDED"
    )
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**26)] = Field(
        65_536, description="Maximum size of a request message (bytes); a larger one is RESOURCE_EXHAUSTED"
    )
    max_metadata_bytes: Annotated[int, Field(ge=1024, le=2**20)] = Field(
        16_384, description="Maximum size of the metadata of a request (bytes); a larger one is RESOURCE_EXHAUSTED"
    )
    max_concurrent_streams: Count = Field(
        100, description="Maximum calls in flight on one connection; further calls wait in the client"
    )
    max_connections: Count = Field(
        10_000,
        description="Maximum open connections of each worker, of gRPC and of REST; further ones are closed",
    )
    handshake_timeout: Seconds = Field(
        10,
        description="Time for a new connection to finish its TLS and HTTP/2 handshakes (s); then it is closed",
    )
    rest_request_timeout: Seconds = Field(
        10,
        description="Time for the head of a REST request to arrive (s), then the connection is closed; and for its "
        "body, then the response is 408",
    )
    rest_response_timeout: Seconds = Field(
        10,
        description="Time for a client to take a REST response (s), besides the time that its size takes at "
        "TASKWELL_REST_MIN_RATE; then the connection is closed",
    )
    rest_min_rate: Count = Field(
        16_384,
        description="Rate at which clients must take REST responses after TASKWELL_REST_RESPONSE_TIMEOUT (bytes/s)",
    )
    keepalive_time: Seconds = Field(60, description="Interval between keepalive pings on a silent connection (s)")
    keepalive_timeout: Seconds = Field(
        20, description="Time for a client to answer a keepalive ping (s); then the connection is closed"
    )
    keepalive_min_interval: Seconds = Field(
        10,
        description="Minimum interval between a client's keepalive pings (s); a client that pings more often is "
        "disconnected",
    )
    max_connection_idle: Seconds = Field(900, description="Time after which a connection without calls is closed (s)")
    max_connection_age: Seconds = Field(
        600,
        description="Age at which a gRPC connection is closed (s), so that clients reconnect and use all servers",
    )
    max_connection_age_grace: Seconds = Field(
        60, description="Time for the calls on a connection of that age to finish (s); then they are aborted"
    )
    shutdown_delay: Annotated[float, Field(ge=0, le=3600)] = Field(
        0,
        description="Time after SIGTERM or SIGINT during which health checks are NOT_SERVING and calls are still "
        "accepted (s), so that load balancers stop sending calls before they are refused",
    )
    shutdown_grace: Seconds = Field(
        20, description="Time for calls in flight to finish after the shutdown delay (s); then they are aborted"
    )

    database_pool_size: Count = Field(
        10,
        description="Database connections that each worker keeps open at most; those that were idle for a minute are "
        "closed while others are used",
    )
    database_max_overflow: Annotated[int, Field(ge=0, le=10_000)] = Field(
        5,
        description="Further database connections that each worker opens under load and closes afterwards; while "
        "statements run for more than a second and calls wait, there may be twice as many in all",
    )
    database_pool_timeout: Seconds = Field(
        10, description="Time for a call to wait for a database connection (s); then it is UNAVAILABLE"
    )
    database_pool_recycle: Seconds = Field(
        240,
        description="Age at which a database connection is replaced (s); keep it below the 300 s after which Neon "
        "suspends",
    )
    database_ping_after: Seconds = Field(
        30, description="Idle time after which a database connection is checked by a round trip before use (s)"
    )
    database_prepare: Literal["auto", "always", "never"] = Field(
        "auto",
        description="Prepared statements on PostgreSQL: 'auto' uses them unless a pooler stands before the database, "
        "'always' behind one that supports them as well (PgBouncer from 1.21 with max_prepared_statements)",
    )
    database_distributed: Literal["auto", "true", "false"] = Field(
        "auto",
        description="Send each statement to the shard of one user, and batch only calls of the same user: 'auto' does "
        "so if the database is Citus and the tables are distributed, 'true' with any other router of PostgreSQL",
    )
    database_start_timeout: Seconds = Field(
        30,
        description="Time to wait at startup for a database that is away or locked by others (s); then the start fails",
    )

    @field_validator("workers", mode="before")
    @classmethod
    def _is_a_number_of_workers(cls, value: object) -> object:
        text = str(value)
        if text != "auto" and not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MAX_WORKERS):
            raise ValueError(f"must be a number from 1 to {_MAX_WORKERS}, or auto")
        if text not in {"auto", "1"} and not _SPREADS_CONNECTIONS:
            raise ValueError("must be 1 on this system: only Linux spreads connections over several processes")
        return value

    @field_validator("*", mode="before")  # after that of `workers`, and so run before it
    @classmethod
    def _is_one_line(cls, value: object, field: ValidationInfo) -> object:
        """Remove a newline at the end, as files have it that are mounted as variables."""
        if not isinstance(value, str):
            return value
        text = value.rstrip("\r\n")
        if field.field_name == "jwt_secret":
            if text != value:
                raise ValueError("must not end with a newline: remove it here and where tokens are signed")
        elif any(character < " " or character == "\x7f" for character in text):
            raise ValueError("must be a single line without control characters")
        return text

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, value: SecretStr) -> SecretStr:
        parse_database_url(value.get_secret_value())
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value().encode()) < _MIN_SECRET_BYTES:
            raise ValueError(f"must be at least {_MIN_SECRET_BYTES} bytes long: a shorter one can be guessed")
        if value and value.get_secret_value().lstrip().startswith(("-----BEGIN", "ssh-", "{", "[")):
            raise ValueError(
                f"must not be a key of another kind, which others may know: set {PREFIX}JWT_JWKS for those"
            )
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if wrong := "\n".join(contradictions(self)):
            raise ValueError(wrong)
        return self

    @property
    def grpc(self) -> Address:
        return parse_address(self.grpc_address)

    @property
    def rest(self) -> Address | None:
        return parse_address(self.rest_address) if self.rest_address else None

    @property
    def hosts(self) -> tuple[str, ...] | None:
        """Host names that REST requests may use; None for any."""
        if self.rest_hosts:
            names = listed(self.rest_hosts)
            return None if "*" in names else names
        trusts_header = self.auth_rule == RULES["metadata", False] and not self.trust_network
        return ("localhost", self.rest.host) if trusts_header and self.rest else None

    @property
    def cors_origins(self) -> tuple[str, ...]:
        return listed(self.rest_cors_origins)

    @property
    def jwks(self) -> JwksSource | None:
        return parse_jwks_source(self.jwt_jwks) if self.jwt_jwks else None

    @property
    def metrics(self) -> Address | None:
        return parse_address(self.metrics_address) if self.metrics_address else None

    @property
    def worker_count(self) -> int:
        """Number of server processes."""
        if self.workers != "auto":
            return self.workers
        return usable_cpus() if isinstance(self.database, PostgresServer) and _SPREADS_CONNECTIONS else 1

    @property
    def auth_rule(self) -> Rule:
        """The certificate and the credential that a client must present."""
        return RULES[self.auth, self.tls_client_ca is not None]

    @property
    def tls(self) -> CertificateFiles | None:
        """Certificate files; None without TLS."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        return CertificateFiles(self.tls_cert, self.tls_key, self.tls_client_ca)

    @property
    def client_names(self) -> tuple[str, ...]:
        return listed(self.tls_client_names)

    @property
    def database(self) -> DatabaseUrl:
        return parse_database_url(self.database_url.get_secret_value())

    def as_environment(self, others: Mapping[str, str]) -> dict[str, str]:
        """Return `others` with the variables of these settings, secrets in plain text, in place of any other settings.

        `inherited_settings` reads them.
        """
        ours = {f"{PREFIX}{name.upper()}" for name in type(self).model_fields}
        environment = {name: value for name, value in others.items() if name not in ours}
        for name in self.model_fields_set:
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
            environment[f"{PREFIX}{name.upper()}"] = text
        return environment


def inherited_settings() -> Settings:
    """Load the settings that the supervisor passed down by `Settings.as_environment`."""
    return Settings(_env_file=None)  # type: ignore[call-arg]  # an argument of pydantic-settings
