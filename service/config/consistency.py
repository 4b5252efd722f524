"""Cross-field checks of the settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.auth.modes import Certificate
from service.config.names import PREFIX
from service.db.url import SqliteFile

if TYPE_CHECKING:
    from service.config.settings import Settings

# Pairs of settings: the first requires the second.
_REQUIRES = (
    *(("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")),
    *(("health_cert", "health_key"), ("health_key", "health_cert")),
    *(("health_cert", "tls_cert"), ("health_ca", "tls_cert")),
    ("rate_burst", "rate_limit"),
    *(("rest_hosts", "rest_address"), ("rest_cors_origins", "rest_address")),
)


def contradictions(settings: Settings) -> Iterator[str]:
    """Yield a sentence for each contradiction between settings; it begins with the name of the setting to change."""
    for name, required in _REQUIRES:
        if getattr(settings, name) and not getattr(settings, required):
            yield f"{PREFIX}{required.upper()}: is required by {PREFIX}{name.upper()}"
    if settings.database_distributed == "true" and isinstance(settings.database, SqliteFile):
        yield f"{PREFIX}DATABASE_DISTRIBUTED: SQLite cannot be distributed: unset this, or use PostgreSQL"
    yield from _of_tls(settings)
    yield from _of_tokens(settings) if settings.auth == "jwt" else _of_metadata(settings)


def _of_tls(settings: Settings) -> Iterator[str]:
    if settings.tls_client_names and not settings.client_names:
        yield f"{PREFIX}TLS_CLIENT_NAMES: contains no name"
    if settings.tls_client_names and not settings.tls_client_ca:
        yield f"{PREFIX}TLS_CLIENT_CA: is required by {PREFIX}TLS_CLIENT_NAMES: else clients present no certificate"
    if settings.auth_rule.certificate is Certificate.LISTED and not settings.client_names:
        yield (
            f"{PREFIX}TLS_CLIENT_NAMES: is required by mutual TLS with {PREFIX}AUTH=metadata: any other client with a "
            "certificate of that CA could claim to be any user"
        )


def _of_tokens(settings: Settings) -> Iterator[str]:
    if settings.jwt_jwks and settings.jwt_secret:
        yield f"{PREFIX}JWT_SECRET: set either this or {PREFIX}JWT_JWKS, not both"
    if not (settings.jwt_jwks or settings.jwt_secret):
        yield (
            f"{PREFIX}JWT_JWKS: {PREFIX}AUTH=jwt requires keys: set this to the URL or file of the issuer's keys, "
            f"or set {PREFIX}JWT_SECRET"
        )
    if not settings.jwt_issuer:
        yield f"{PREFIX}JWT_ISSUER: is required by {PREFIX}AUTH=jwt: tokens of other issuers must be refused"
    if not settings.jwt_audience:
        yield f"{PREFIX}JWT_AUDIENCE: is required by {PREFIX}AUTH=jwt: tokens issued for other services must be refused"
    if not settings.jwt_scope_claim and settings.model_fields_set & {"jwt_read_scope", "jwt_write_scope"}:
        yield f"{PREFIX}JWT_SCOPE_CLAIM: must be set too: without it, scopes are not checked"


def _of_metadata(settings: Settings) -> Iterator[str]:
    if "*" in settings.cors_origins:
        yield (
            f"{PREFIX}REST_CORS_ORIGINS: * with {PREFIX}AUTH=metadata would let every web page act as any user: "
            "list the origins"
        )
    for name in sorted(settings.model_fields_set):
        if name.startswith("jwt_"):
            yield f"{PREFIX}{name.upper()}: has no effect without {PREFIX}AUTH=jwt: set that, or unset this"
    if settings.trust_network or settings.auth_rule.certificate is Certificate.LISTED:
        return
    for name, address in (("GRPC_ADDRESS", settings.grpc), ("REST_ADDRESS", settings.rest)):
        if address and not address.is_loopback:
            yield (
                f"{PREFIX}{name}: other machines can reach {address}, and could claim to be any user. Listen on "
                f"127.0.0.1, set {PREFIX}TLS_CLIENT_CA and {PREFIX}TLS_CLIENT_NAMES for mutual TLS, or "
                f"{PREFIX}TRUST_NETWORK=true if only a trusted gateway or mesh can reach it"
            )
