"""Which settings do not go together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from service.auth.modes import Certificate
from service.config.field_types import PREFIX

if TYPE_CHECKING:
    from service.config.settings import Settings

# What is of no use without the other.
_TOGETHER = (
    *(("tls_cert", "tls_key"), ("tls_key", "tls_cert"), ("tls_client_ca", "tls_cert")),
    *(("health_cert", "health_key"), ("health_key", "health_cert")),
    *(("health_cert", "tls_cert"), ("health_ca", "tls_cert")),
    ("rate_burst", "rate_limit"),
    *(("rest_hosts", "rest_address"), ("rest_cors_origins", "rest_address")),
)


def contradictions(settings: Settings) -> Iterator[str]:
    """What is wrong with the settings, taken together: a sentence for each thing, the name of a setting first."""
    for one, other in _TOGETHER:
        if getattr(settings, one) and not getattr(settings, other):
            yield f"{PREFIX}{other.upper()}: {PREFIX}{one.upper()} needs it"
    yield from _of_tls(settings)
    yield from _of_tokens(settings) if settings.auth == "jwt" else _of_metadata(settings)


def _of_tls(settings: Settings) -> Iterator[str]:
    if settings.tls_client_names and not settings.client_names:
        yield f"{PREFIX}TLS_CLIENT_NAMES: has no name in it"
    if settings.tls_client_names and not settings.tls_client_ca:
        yield f"{PREFIX}TLS_CLIENT_CA: {PREFIX}TLS_CLIENT_NAMES needs it: without it no client shows a certificate"
    if settings.evidence.certificate is Certificate.LISTED and not settings.client_names:
        yield (
            f"{PREFIX}TLS_CLIENT_NAMES: mutual TLS with {PREFIX}AUTH=metadata needs it: whoever else has a certificate "
            "of that CA could claim to be any user"
        )


def _of_tokens(settings: Settings) -> Iterator[str]:
    if settings.jwt_jwks and settings.jwt_secret:
        yield f"{PREFIX}JWT_SECRET: set either this or {PREFIX}JWT_JWKS: a token has one kind of key"
    if not (settings.jwt_jwks or settings.jwt_secret):
        yield f"{PREFIX}JWT_JWKS: jwt needs keys: set this to where the issuer publishes them, or {PREFIX}JWT_SECRET"
    if not settings.jwt_issuer:
        yield f"{PREFIX}JWT_ISSUER: jwt needs it: tokens of other issuers must be refused"
    if not settings.jwt_audience:
        yield f"{PREFIX}JWT_AUDIENCE: jwt needs it: tokens that were issued for other services must be refused"
    if not settings.jwt_scope_claim and settings.model_fields_set & {"jwt_read_scope", "jwt_write_scope"}:
        yield f"{PREFIX}JWT_SCOPE_CLAIM: set it as well: without it no token is asked for a scope"


def _of_metadata(settings: Settings) -> Iterator[str]:
    if "*" in settings.cors_origins:
        yield f"{PREFIX}REST_CORS_ORIGINS: * would let every page in a browser be any user: name the origins"
    for name in sorted(settings.model_fields_set):
        if name.startswith("jwt_"):
            yield f"{PREFIX}{name.upper()}: means nothing unless {PREFIX}AUTH=jwt; set that, or do not set this"
    if settings.trust_network or settings.evidence.certificate is Certificate.LISTED:
        return
    for name, address in (("GRPC_ADDRESS", settings.grpc), ("REST_ADDRESS", settings.rest)):
        if address and not address.is_loopback:
            yield (
                f"{PREFIX}{name}: other machines can reach {address}, and could claim to be any user. Listen on "
                f"127.0.0.1, set {PREFIX}TLS_CLIENT_CA and {PREFIX}TLS_CLIENT_NAMES for mutual TLS, or "
                f"{PREFIX}TRUST_NETWORK=true if only a trusted gateway or mesh can reach it"
            )
