"""Tokens for development, signed with the shared secret, for use before there is an issuer."""

from jwt import PyJWT

from service.auth.claims import Expected
from service.auth.keys import hmac_key
from service.model import is_user_id

_jwt = PyJWT()


def mint_token(secret: str, expected: Expected, user_id: str, scopes: str, now: int, lifetime: int) -> str:
    """Sign a token for `user_id` with space-separated scopes, valid from `now` (s since 1970) for `lifetime` seconds.

    Raises ValueError if `user_id` is not a valid user id, and KeysError if `secret` is too short to be a key.
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
