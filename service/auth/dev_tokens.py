"""Tokens for development, signed with the shared secret: what grpcurl sends where there is no issuer yet."""

from jwt import PyJWT

from service.auth.claims import Expected
from service.auth.keys import hmac_key
from service.model import is_user_id

_jwt = PyJWT()


def mint_token(secret: str, expected: Expected, user_id: str, scopes: str, now: int, lifetime: int) -> str:
    """A token for this user with these space-separated scopes, from `now` (s since 1970) for `lifetime` seconds.

    Raises ValueError for a name that is no user id, and KeysError for a secret that cannot be one.
    """
    if not is_user_id(user_id):
        raise ValueError("a user is 1 to 255 printable ASCII characters without spaces")
    claims = {
        "iss": expected.issuer,
        "aud": expected.audience,
        "sub": user_id,
        "iat": now,
        "exp": now + lifetime,
        **({expected.scope_claim: scopes} if expected.scope_claim else {}),
    }
    return _jwt.encode(claims, hmac_key(secret))
