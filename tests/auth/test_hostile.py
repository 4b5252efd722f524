"""Hostile tokens are refused, in words that quote nothing of them. (By a server: tests/rpc/test_signed_callers.py.)"""

from collections import Counter
from pathlib import Path

import pytest
from grpc import StatusCode

from service.auth.jwks import JwksFile
from service.auth.keys import IssuerKeys
from service.auth.tokens import TokenAuthentication
from service.errors import RequestError
from service.model import Caller
from service.rpc.status import CODES
from tests.auth.hostile import hostile_tokens
from tests.auth.issuing import EXPECTED, NOW, Clock, KeyPairs


@pytest.fixture
def jwks(keys: KeyPairs, tmp_path: Path) -> Path:
    path = tmp_path / "jwks.json"
    path.write_bytes(keys.published())
    return path


async def refusal(tokens: TokenAuthentication, token: str) -> RequestError | None:
    try:
        caller = tokens.authenticate([("authorization", f"Bearer {token}")])
        if not isinstance(caller, Caller):
            await caller
    except RequestError as error:
        return error
    return None


async def test_hostile_tokens_are_refused(keys: KeyPairs, attacker: KeyPairs, jwks: Path) -> None:
    issuer = IssuerKeys(JwksFile(str(jwks)), Clock())
    await issuer.load()
    tokens = TokenAuthentication(issuer, EXPECTED, Clock())
    hostile = hostile_tokens(keys, attacker, NOW)
    assert len(hostile) >= 200
    assert max(Counter(each.wrong for each in hostile).values()) == 1, "each is another"
    expected = {each.wrong: each.reason for each in hostile}
    refusals = {each.wrong: await refusal(tokens, each.token) for each in hostile}
    assert expected == {wrong: error and error.reason for wrong, error in refusals.items()}
    assert {StatusCode.UNAUTHENTICATED} == {CODES[type(error)] for error in refusals.values() if error}


async def test_the_error_of_a_refused_token_quotes_nothing_of_it(
    keys: KeyPairs, attacker: KeyPairs, jwks: Path
) -> None:
    issuer = IssuerKeys(JwksFile(str(jwks)), Clock())
    await issuer.load()
    tokens = TokenAuthentication(issuer, EXPECTED, Clock())
    for each in hostile_tokens(keys, attacker, NOW):
        error = await refusal(tokens, each.token)
        assert error is not None
        assert error.__cause__ is None, "a cause is logged"
        told = str(error)
        pieces = {each.token[at : at + 12] for at in range(0, len(each.token) - 12, 12)}
        assert not [piece for piece in pieces if piece in told], each.wrong
