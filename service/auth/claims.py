"""What a verified token says (RFC 7519), held against what this server expects."""

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
"""How far the issuer's clock and ours may be apart (s)."""
_FURTHEST = 2**53
"""Times further away than this cannot be told apart, and are no times (s; the year 285,428,681)."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a token must say to be for this server. Without a `scope_claim` tokens are not limited by scopes."""

    issuer: str
    audience: str
    scope_claim: str | None = None


class Verified(NamedTuple):
    """Who is calling, and until when the token says so (s since 1970)."""

    caller: Caller
    ends: float


def read_claims(claims: Mapping[str, object], expected: Expected, now: float) -> Verified:
    """The caller whom these claims name at `now` (s since 1970); their signature must have been verified.

    Raises one of the errors of tokens for the first claim that is not as expected. We do this ourselves, more strictly
    than PyJWT: it takes a text or a truth value for a time, and knows no clock but the machine's.
    """
    if claims.get("iss") != expected.issuer:
        raise TokenIssuer
    if expected.audience not in _audiences(claims):
        raise TokenAudience
    ends = _ends(claims, now)
    _refuse_early(claims, now)
    user_id = claims.get("sub")
    if not is_user_id(user_id):
        raise TokenSubject
    return Verified(Caller(user_id, _scopes(claims, expected.scope_claim)), ends)


def _audiences(claims: Mapping[str, object]) -> list[object]:
    """One audience or a list of them (RFC 7519, 4.1.3); none where what is there is neither."""
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    return audiences if all(isinstance(each, str) for each in audiences) else []


def _ends(claims: Mapping[str, object], now: float) -> float:
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
    """A NumericDate (RFC 7519, 2). None where there is none."""
    if name not in claims:
        return None
    value = claims[name]
    # In Python a truth value is a number.
    if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < _FURTHEST:
        raise TokenMalformed(problem=f"its {name} is not a number of seconds")
    return value


def _scopes(claims: Mapping[str, object], name: str | None) -> frozenset[str] | None:
    """Space-separated scopes (RFC 8693, 4.2); a token without any may do nothing that needs one."""
    if name is None:
        return None
    scopes = claims.get(name, "")
    if not isinstance(scopes, str):
        raise TokenMalformed(problem="its scopes are not a text, separated by spaces")
    return frozenset(filter(None, scopes.split(" ")))
