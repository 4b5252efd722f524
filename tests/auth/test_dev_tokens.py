"""Tokens for development."""

from base64 import urlsafe_b64decode

import pytest

from service.auth.claims import Expected
from service.auth.dev_tokens import mint_token
from service.auth.keys import SecretKey
from service.auth.tokens import TokenAuthentication
from service.errors import TokenExpired
from service.model import Caller
from service.strict_json import parse_object
from tests.auth.issuing import AUDIENCE, EXPECTED, ISSUER, NOW, Clock

SECRET = "what both of them know and nobody else"


def test_a_minted_token_is_accepted_until_its_expiry() -> None:
    clock = Clock()
    expected = Expected(ISSUER, AUDIENCE, "scope")
    tokens = TokenAuthentication(SecretKey(SECRET), expected, clock)
    token = mint_token(SECRET, expected, "alice", "tasks.read", int(NOW), 60)
    metadata = [("authorization", f"Bearer {token}")]
    assert Caller("alice", frozenset(["tasks.read"])) == tokens.authenticate(metadata)
    clock.now = NOW + 90
    with pytest.raises(TokenExpired):
        tokens.authenticate(metadata)


@pytest.mark.parametrize(("scope_claim", "scopes"), [(None, {}), ("scp", {"scp": "tasks.read"})])
def test_a_minted_token_has_these_claims_and_no_others(scope_claim: str | None, scopes: dict[str, str]) -> None:
    token = mint_token(SECRET, Expected(ISSUER, AUDIENCE, scope_claim), "alice", "tasks.read", int(NOW), 60)
    claims = parse_object(urlsafe_b64decode(token.split(".")[1] + "=="))
    assert claims == {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": NOW, "exp": NOW + 60, **scopes}


@pytest.mark.parametrize("user", ["", "alice bob", "é", "x" * 256])
def test_no_token_is_minted_for_an_invalid_user_id(user: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        mint_token(SECRET, EXPECTED, user, "", int(NOW), 60)
