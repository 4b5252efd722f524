"""Settings: every one of them, and what it may be. Read once, then frozen; which go together, consistency.py knows."""

import sys
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.address import Address, parse_address
from service.auth.jwks import JwksSource, parse_jwks_source
from service.auth.modes import RULES, Rule
from service.config.consistency import contradictions
from service.config.cpus import usable_cpus
from service.config.field_types import (
    PREFIX,
    AddressText,
    Count,
    HostsText,
    JwksText,
    Name,
    OriginsText,
    Seconds,
    listed,
)
from service.db.url import DatabaseUrl, PostgresServer, parse_database_url
from service.tls.files import CertificateFiles

# As long as what HS256 makes of it (RFC 7518, 3.2), in bytes.
_SHORTEST_SECRET = 32

_MOST_WORKERS = 256
# Elsewhere SO_REUSEPORT lets several sockets listen on one port, and one of them gets all connections.
_SPREADS_CONNECTIONS = sys.platform == "linux"


class Settings(BaseSettings):
    """Every setting is an environment variable, its name in capitals behind TASKWELL_, and a flag of the same name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",  # .env may hold other programs' variables
        frozen=True,
        hide_input_in_errors=True,  # an input may be a secret
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    grpc_address: AddressText = Field(
        "127.0.0.1:50051", description="Where to serve gRPC, host:port; port 0 picks a free one"
    )
    rest_address: AddressText | None = Field(
        None, description="Where to serve REST (JSON over HTTP/1.1), host:port; unset, nowhere"
    )
    rest_hosts: HostsText | None = Field(
        None,
        description="The names by which REST may be asked for (header host), separated by commas, or *; unset, "
        "localhost where x-user-id is believed on a loopback address, else any",
    )
    rest_cors_origins: OriginsText | None = Field(
        None,
        description="The origins (https://app.example.com) whose pages may call REST from a browser, separated by "
        "commas, or *; unset, none",
    )
    metrics_address: AddressText | None = Field(
        None, description="Where to serve metrics to Prometheus, host:port; unset, nowhere"
    )
    workers: Literal["auto"] | int = Field(
        "auto", description="Processes that serve; auto is one for each core on PostgreSQL (on Linux), else 1"
    )
    database_url: SecretStr = Field(
        SecretStr("sqlite:///taskwell.db"),
        description="The database: sqlite:///file, or PostgreSQL in SQLAlchemy's or in libpq's form",
    )
    migrate: bool = Field(
        False, description="On PostgreSQL, migrate the schema before serving; on SQLite this is always done"
    )
    auth: Literal["metadata", "jwt"] = Field(
        "metadata",
        description="How callers are known: metadata takes x-user-id as a trusted mesh or gateway set it, jwt takes "
        "signed tokens",
    )
    jwt_jwks: JwksText | None = Field(
        None, description="Where the issuer of the tokens publishes its keys (EdDSA, ES256, RS256): a URL or a file"
    )
    jwt_secret: SecretStr | None = Field(
        None, description="Or the secret that the tokens are signed with (HS256), at least 32 bytes"
    )
    jwt_issuer: str | None = Field(None, description="Who must have issued a token (iss); jwt needs it")
    jwt_audience: str | None = Field(None, description="For whom a token must be (aud); jwt needs it")
    jwt_scope_claim: Name | None = Field(
        None, description="The claim with a token's scopes, for example scope; unset, every token may do everything"
    )
    jwt_read_scope: Name = Field("tasks.read", description="The scope that allows GetTask and ListTasks")
    jwt_write_scope: Name = Field("tasks.write", description="The scope that allows the other methods")
    trust_network: bool = Field(
        False, description="Allow metadata authentication on an address that other machines can reach"
    )
    tls_cert: str | None = Field(
        None, description="The certificate to serve TLS with, and those between it and its CA: a PEM file"
    )
    tls_key: str | None = Field(None, description="The key of that certificate: a PEM file")
    tls_client_ca: str | None = Field(
        None, description="Turns on mutual TLS: only clients with a certificate of this CA are connected; a PEM file"
    )
    tls_client_names: str | None = Field(
        None,
        description="The services that may call, by a DNS name or URI (SPIFFE id) in their certificate, separated by "
        "commas",
    )
    health_ca: str | None = Field(
        None, description="What 'taskwell health' verifies a TLS server by: a PEM file; unset, TASKWELL_TLS_CERT itself"
    )
    health_cert: str | None = Field(
        None, description="The certificate it shows where mutual TLS asks for one; unset, the server's own"
    )
    health_key: str | None = Field(None, description="The key of that certificate")
    users: Literal["any", "known"] = Field(
        "any",
        description="any makes a user with their first task; known refuses users without a row in the users table",
    )
    reflection: Literal["open", "caller", "off"] = Field(
        "open",
        description="Server reflection: for everybody (and REST's /docs and /openapi.json with it), for calls that "
        "name a user, or not at all",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The least severe log lines to write; debug has a line for every successful call"
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="How log lines look on standard error: auto is console on a terminal, else json"
    )

    coalesce: bool = Field(
        True, description="Turn concurrent calls into one statement; without it every call sends its own"
    )
    max_in_flight: Count = Field(
        2048, description="Calls under way at once in each worker; one more is RESOURCE_EXHAUSTED"
    )
    rate_limit: Annotated[float, Field(ge=0.001, le=1_000_000)] | None = Field(
        None,
        description="Calls per second that each user may make, counted by each worker for itself; more are "
        "RESOURCE_EXHAUSTED; unset, as many as they like",
    )
    rate_burst: Count | None = Field(
        None, description="Calls that a user may make at once before that counts; unset, those of one second"
    )
    max_call_seconds: Seconds = Field(30, description="How long a call may take, whatever its deadline (s)")
    max_message_bytes: Annotated[int, Field(ge=1024, le=2**26)] = Field(
        65_536, description="The largest request message (bytes); a larger one is RESOURCE_EXHAUSTED"
    )
    max_metadata_bytes: Annotated[int, Field(ge=1024, le=2**20)] = Field(
        16_384, description="The largest metadata of a request (bytes); larger ones are RESOURCE_EXHAUSTED"
    )
    max_concurrent_streams: Count = Field(
        1000, description="Calls under way at once on one connection; more wait in the client"
    )
    max_connections: Count = Field(
        10_000,
        description="Connections open at once to each worker; one more is closed (by REST, after its handshake)",
    )
    handshake_timeout: Seconds = Field(
        10, description="How long a new connection may take to speak HTTP/2, and to keep to its limits (s)"
    )
    rest_request_timeout: Seconds = Field(
        10, description="How long a REST request may take to arrive, and its answer to be taken (s)"
    )
    keepalive_time: Seconds = Field(
        60, description="How long a connection may be silent before it is asked for a sign of life (s)"
    )
    keepalive_timeout: Seconds = Field(
        20, description="How long the answer to that may take before the connection is closed (s)"
    )
    keepalive_min_interval: Seconds = Field(
        10, description="How often a client may ask for a sign of life (s); more often closes the connection"
    )
    max_connection_idle: Seconds = Field(900, description="How long a connection without calls is kept open (s)")
    max_connection_age: Seconds = Field(
        600, description="The age at which a connection is asked to close (s), so that clients spread over servers anew"
    )
    max_connection_age_grace: Seconds = Field(60, description="How long calls may go on after that (s)")
    shutdown_grace: Seconds = Field(20, description="How long calls may go on after SIGTERM or SIGINT (s)")

    database_pool_size: Count = Field(10, description="Database connections that each worker keeps open")
    database_max_overflow: Annotated[int, Field(ge=0, le=10_000)] = Field(
        5, description="Database connections that each worker opens beyond those under load"
    )
    database_pool_timeout: Seconds = Field(
        10, description="How long a call waits for a database connection before it is UNAVAILABLE (s)"
    )
    database_pool_recycle: Seconds = Field(
        240,
        description="The age at which a database connection is replaced (s); below the 300 s after which Neon suspends",
    )
    database_ping_after: Seconds = Field(
        30, description="How long a database connection may lie idle before it is checked with a round trip (s)"
    )
    database_prepare: bool = Field(
        True, description="Prepare statements on PostgreSQL; turned off by itself behind a pooler that cannot"
    )
    database_start_timeout: Seconds = Field(30, description="How long to wait for the database at the start (s)")

    @field_validator("workers", mode="before")
    @classmethod
    def _is_a_number_of_workers(cls, value: object) -> object:
        text = str(value)
        if text != "auto" and not (text.isascii() and text.isdigit() and 1 <= int(text) <= _MOST_WORKERS):
            raise ValueError(f"must be a number from 1 to {_MOST_WORKERS}, or auto")
        if text not in {"auto", "1"} and not _SPREADS_CONNECTIONS:
            raise ValueError("must be 1 on this system: it does not spread connections over processes, as Linux does")
        return value

    @field_validator("database_url")
    @classmethod
    def _is_database_url(cls, value: SecretStr) -> SecretStr:
        parse_database_url(value.get_secret_value())
        return value

    @field_validator("jwt_secret")
    @classmethod
    def _is_a_secret(cls, value: SecretStr | None) -> SecretStr | None:
        if value and len(value.get_secret_value().encode()) < _SHORTEST_SECRET:
            raise ValueError(f"must be at least {_SHORTEST_SECRET} bytes long: a shorter one can be guessed")
        if value and value.get_secret_value().lstrip().startswith(("-----BEGIN", "ssh-", "{", "[")):
            raise ValueError(f"must not be a key of another kind, which others may know: {PREFIX}JWT_JWKS takes those")
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
        """The names by which REST may be asked for; None for any."""
        if self.rest_hosts:
            names = listed(self.rest_hosts)
            return None if "*" in names else names
        believes = self.evidence == RULES["metadata", False] and not self.trust_network
        return ("localhost", self.rest.host) if believes and self.rest else None

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
        """How many processes serve."""
        if self.workers != "auto":
            return self.workers
        return usable_cpus() if isinstance(self.database, PostgresServer) and _SPREADS_CONNECTIONS else 1

    @property
    def evidence(self) -> Rule:
        """What must be shown by whom who calls."""
        return RULES[self.auth, self.tls_client_ca is not None]

    @property
    def tls(self) -> CertificateFiles | None:
        """What TLS is served with, if it is."""
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
        """These variables with those that make these settings, secrets in clear, in place of any that make others.

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
    """The settings of the process that started this one, as `Settings.as_environment` handed them down."""
    return Settings(_env_file=None)  # type: ignore[call-arg]  # of pydantic-settings, not of the class
