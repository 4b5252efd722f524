"""Tokens for development."""

import pytest

from service.auth.claims import Expected
from service.auth.dev_tokens import mint_token
from service.auth.keys import SecretKey
from service.auth.tokens import TokenAuthentication
from service.errors import TokenExpired
from service.model import Caller
from tests.auth.issuing import AUDIENCE, EXPECTED, ISSUER, NOW, Clock

SECRET = "what both of them know and nobody else"


def test_a_minted_token_is_taken_until_it_expires() -> None:
    clock = Clock()
    expected = Expected(ISSUER, AUDIENCE, "scope")
    tokens = TokenAuthentication(SecretKey(SECRET), expected, clock)
    token = mint_token(SECRET, expected, "alice", "tasks.read", int(NOW), 60)
    metadata = [("authorization", f"Bearer {token}")]
    assert Caller("alice", frozenset(["tasks.read"])) == tokens.authenticate(metadata)
    clock.now = NOW + 90
    with pytest.raises(TokenExpired):
        tokens.authenticate(metadata)


@pytest.mark.parametrize("user", ["", "alice bob", "é", "x" * 256])
def test_no_token_is_minted_for_nobody(user: str) -> None:
    with pytest.raises(ValueError, match="1 to 255"):
        mint_token(SECRET, EXPECTED, user, "", int(NOW), 60)
