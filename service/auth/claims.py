"""Claims of a verified token (RFC 7519), checked against the issuer and audience that this server expects."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from service.errors import (
    TokenAudience,
    TokenExpired,
    TokenIssuer,
    TokenMalformed,
    TokenNotYetValid,
    TokenSubject,
)
from service.model import Caller, is_user_id

LEEWAY = 30.0
"""Largest difference between the issuer's clock and ours (s)."""
_MAX_TIME = 2**53
"""Largest number of seconds that a float holds exactly (the year 285,428,681); larger times are refused."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The claims that this server requires. Without a `scope_claim` scopes limit nothing."""

    issuer: str
    audience: str
    scope_claim: str | None = None


class Verified(NamedTuple):
    """The caller, and the time at which the token stops being accepted (s since 1970)."""

    caller: Caller
    expires_at: float


def read_claims(claims: Mapping[str, object], expected: Expected, now: float) -> Verified:
    """Check the claims of a token at `now` (s since 1970) and return its caller. The signature must be verified.

    Raises a token error for the first claim that is wrong. Stricter than PyJWT, which accepts a string or a boolean as
    a time and takes no clock as an argument.
    """
    if claims.get("iss") != expected.issuer:
        raise TokenIssuer
    if expected.audience not in _audiences(claims):
        raise TokenAudience
    expires_at = _expiry(claims, now)
    _refuse_early(claims, now)
    user_id = claims.get("sub")
    if not is_user_id(user_id):
        raise TokenSubject
    return Verified(Caller(user_id, _scopes(claims, expected.scope_claim)), expires_at)


def _audiences(claims: Mapping[str, object]) -> list[object]:
    """The audiences: a string or a list of strings (RFC 7519, 4.1.3). Empty for anything else."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    return audiences if all(isinstance(each, str) for each in audiences) else []


def _expiry(claims: Mapping[str, object], now: float) -> float:
    expiry = _time(claims, "exp")
    if expiry is None:
        raise TokenMalformed(problem="it has no expiry (exp)")
    if expiry + LEEWAY <= now:
        raise TokenExpired
    return expiry + LEEWAY


def _refuse_early(claims: Mapping[str, object], now: float) -> None:
    for name in ("nbf", "iat"):
        begins = _time(claims, name)
        if begins is not None and begins - LEEWAY > now:
            raise TokenNotYetValid


def _time(claims: Mapping[str, object], name: str) -> float | None:
    """A NumericDate (RFC 7519, 2), or None if the claim is absent."""
    if name not in claims:
        return None
    value = claims[name]
    # In Python a boolean is an int.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _MAX_TIME:
        raise TokenMalformed(problem=f"its {name} is not a number of seconds")
    return value


def _scopes(claims: Mapping[str, object], name: str | None) -> frozenset[str] | None:
    """Space-separated scopes (RFC 8693, 4.2). A token without the claim has no scope."""
    if name is None:
        return None
    scopes = claims.get(name, "")
    if not isinstance(scopes, str):
        raise TokenMalformed(problem="its scopes are not a text, separated by spaces")
    return frozenset(filter(None, scopes.split(" ")))
