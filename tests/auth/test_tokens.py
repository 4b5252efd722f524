"""Verification of tokens: which are accepted, for how long, and the cache of verified tokens."""

from typing import Any

import pytest

from service.auth import tokens as tokens_module
from service.auth.claims import Expected
from service.auth.jwks import KeysError
from service.auth.keys import KeySet, SecretKey
from service.auth.tokens import TokenAuthentication
from service.errors import (
    RequestError,
    TokenExpired,
    TokenIssuer,
    TokenMalformed,
    TokenMissing,
    TokenNotYetValid,
    TokenSignature,
    TokenTooLarge,
)
from service.model import Caller
from tests.auth.issuing import (
    ALGORITHMS,
    AUDIENCE,
    EXPECTED,
    ISSUER,
    NOW,
    Clock,
    KeyPairs,
    compact,
    good_claims,
    signing_with_secret,
)

SECRET = "what both of them know and nobody else"
ALICE = Caller("alice")


class FixedKeys:
    """Keys that are never fetched."""

    def __init__(self, jwks: bytes) -> None:
        self.find = KeySet(jwks).find
        self.when_changed = list[Any]().append

    async def refresh(self) -> None:
        """There are no other keys."""


class Given:
    """A TokenAuthentication and its clock."""

    def __init__(self, jwks: bytes, expected: Expected = EXPECTED) -> None:
        self.clock = Clock()
        self.tokens = TokenAuthentication(FixedKeys(jwks), expected, self.clock)

    def caller(self, token: str) -> Any:
        return self.tokens.authenticate([("authorization", f"Bearer {token}")])


@pytest.fixture
def given(keys: KeyPairs) -> Given:
    return Given(keys.published())


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The tokens whose signatures were verified, in order."""
    verified: list[str] = []
    verify = tokens_module._verified_claims

    def counting(token: str, key: Any) -> Any:
        verified.append(token)
        return verify(token, key)

    monkeypatch.setattr(tokens_module, "_verified_claims", counting)
    return verified


# Accepted tokens


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_token_is_verified_by_the_algorithm_of_its_key(given: Given, keys: KeyPairs, kind: str) -> None:
    assert given.caller(keys.token(kind)) == ALICE


@pytest.mark.parametrize("kind", ALGORITHMS)
async def test_a_token_need_not_name_the_only_key(keys: KeyPairs, kind: str) -> None:
    token = keys.token(kind, header={"kid": ...})
    assert Given(keys.published(kind)).caller(token) == ALICE
    with pytest.raises(TokenSignature):
        await Given(keys.published()).caller(token)


@pytest.mark.parametrize(
    "header",
    [{"typ": ...}, {"typ": "jwt"}, {"typ": "at+jwt"}, {"typ": "application/at+JWT"}, {"x": {"y": [1]}}, {"jwk": {}}],
)
def test_unknown_headers_are_ignored(given: Given, keys: KeyPairs, header: dict[str, Any]) -> None:
    assert given.caller(keys.token(header=header)) == ALICE


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": [AUDIENCE]},
        {"aud": ["other", AUDIENCE]},
        {"iat": ...},
        {"nbf": NOW},
        {"nbf": int(NOW) - 86_400},
        {"exp": NOW + 0.5},
        {"exp": 2**53 - 1},
        {"scope": "anything"},
        {"scope": 1},
        {"jti": 1, "name": "é", "org": {"sub": "bob"}},
    ],
)
def test_unknown_claims_are_ignored(given: Given, keys: KeyPairs, claims: dict[str, Any]) -> None:
    assert given.caller(keys.token(**claims)) == ALICE


@pytest.mark.parametrize("user", ["a", "x" * 255, "auth0|5f7c8e", "!~"])
def test_the_caller_is_the_subject(given: Given, keys: KeyPairs, user: str) -> None:
    assert Caller(user) == given.caller(keys.token(sub=user))


def test_a_shared_secret_verifies_tokens_of_every_kid() -> None:
    tokens = TokenAuthentication(SecretKey(SECRET), EXPECTED, Clock())
    for header in ({"alg": "HS256"}, {"alg": "HS256", "kid": "any"}):
        token = compact(header, good_claims(NOW), signing_with_secret(SECRET.encode()))
        assert tokens.authenticate([("authorization", f"Bearer {token}")]) == ALICE


@pytest.mark.parametrize("alg", ["none", "HS384", "HS512", "RS256", "EdDSA"])
def test_a_shared_secret_is_for_one_algorithm(alg: str, keys: KeyPairs) -> None:
    tokens = TokenAuthentication(SecretKey(SECRET), EXPECTED, Clock())
    digest = {"HS384": "sha384", "HS512": "sha512"}.get(alg, "sha256")
    for token in (
        compact({"alg": alg}, good_claims(NOW), signing_with_secret(SECRET.encode(), digest)),
        compact({"alg": "HS256"}, good_claims(NOW), signing_with_secret(SECRET.encode()[:-1])),
        keys.token("rsa", header={"alg": alg}),
    ):
        with pytest.raises(TokenSignature):
            tokens.authenticate([("authorization", f"Bearer {token}")])


@pytest.mark.parametrize("secret", ["", "x" * 31, '{"kty": "oct", "k": "x", "more": "to be long enough"}'])
def test_a_short_or_foreign_shared_secret_is_refused(secret: str) -> None:
    with pytest.raises(KeysError):
        SecretKey(secret)


# The metadata


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER ", "Bearer   "])
def test_the_scheme_is_bearer_however_it_is_spelt(given: Given, keys: KeyPairs, scheme: str) -> None:
    assert given.tokens.authenticate([("authorization", f"{scheme}{keys.token()}")]) == ALICE


def test_x_user_id_is_ignored(given: Given, keys: KeyPairs) -> None:
    token = ("authorization", f"Bearer {keys.token()}")
    for user in ("bob", "", "b b", b"bob"):
        assert given.tokens.authenticate([("x-user-id", user), token, ("x-user-id", user)]) == ALICE
        with pytest.raises(TokenMissing):
            given.tokens.authenticate([("x-user-id", user)])


def test_metadata_without_exactly_one_bearer_token_is_refused(given: Given, keys: KeyPairs) -> None:
    token = keys.token()
    good = ("authorization", f"Bearer {token}")
    given.tokens.authenticate([good])
    malformed: list[Any] = [
        [good, good],
        [good, ("authorization", "Basic YWxpY2U6")],
        [good, ("authorization", f"Bearer {keys.token(sub='bob')}")],
        [good, ("authorization-bin", token.encode())],
        [("authorization-bin", f"Bearer {token}".encode())],
        [("authorization", f"Bearer {token}".encode())],
        *([("authorization", value)] for value in ("", "Bearer", token, f"Bearer{token}", f"Basic {token}")),
        *(
            [("authorization", f"{value}{token}")]
            for value in (" Bearer ", "Bearer\t", "Bearer \t", "Bearer: ", "JWT ")
        ),
        [("authorization", f"Bearer {token}, Bearer {token}")],
    ]
    for metadata in malformed:
        with pytest.raises(TokenMalformed):
            given.tokens.authenticate(metadata)
    for key in ("Authorization", "x-authorization", "authorization ", "proxy-authorization"):
        with pytest.raises(TokenMissing):
            given.tokens.authenticate([(key, f"Bearer {token}")])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"token": "a.b"}, "it is not three parts in base64url with dots between them"),
        ({"header": {"b64": False}}, "its header has extensions that this server does not know"),
        ({"header": {"typ": "JWE"}}, "its type (typ) is neither JWT nor at+jwt"),
        ({"header": {"kid": 1}}, "its key's name (kid) is not a text"),
        ({"header": b"{"}, "its header is not JSON"),
        ({"payload": b"[]"}, "its payload is not a JSON object"),
        ({"exp": ...}, "it has no expiry (exp)"),
        ({"exp": True}, "its exp is not a number of seconds"),
        ({"scope": 1}, "its scopes are not a text, separated by spaces"),
    ],
)
def test_the_error_of_a_malformed_token_names_the_problem(
    keys: KeyPairs, changes: dict[str, Any], problem: str
) -> None:
    given = Given(keys.published(), Expected(ISSUER, AUDIENCE, "scope"))
    header, payload = changes.pop("header", {}), changes.pop("payload", None)
    token = changes.pop("token", None) or keys.token(header=header if isinstance(header, dict) else {}, **changes)
    if isinstance(header, bytes):
        token = compact(header, good_claims(NOW), keys.ed.sign)
    if payload:
        token = compact({"alg": "EdDSA", "kid": "ed"}, payload, keys.ed.sign)
    with pytest.raises(TokenMalformed) as refusal:
        given.caller(token)
    assert problem in str(refusal.value)


def test_a_token_may_have_8_kib_and_no_more() -> None:
    def read(length: int) -> str:
        return tokens_module.bearer_token([("authorization", f"Bearer {'x' * length}")])

    assert len(read(8192)) == 8192
    with pytest.raises(TokenTooLarge) as refusal:
        read(8193)
    assert "8193" in str(refusal.value)
    assert "8192" in str(refusal.value)


def test_a_token_with_characters_that_cannot_be_encoded_is_malformed(given: Given) -> None:
    with pytest.raises(TokenMalformed):
        given.caller("a.b.\ud800")


@pytest.mark.parametrize("crit", [[], ["exp"], ["b64"], None])
def test_a_critical_extension_is_refused_before_any_key_is_fetched(given: Given, keys: KeyPairs, crit: Any) -> None:
    # Refused by us; PyJWT, which would refuse most of them too, never sees the token.
    with pytest.raises(TokenMalformed, match="extensions that this server does not know"):
        given.caller(keys.token(header={"crit": crit, "kid": "unknown"}))


# Expiry


@pytest.mark.parametrize("warm", [False, True])
def test_a_token_is_accepted_until_30_seconds_after_its_expiry(given: Given, keys: KeyPairs, warm: bool) -> None:
    token = keys.token(exp=NOW + 10)
    if warm:
        given.caller(token)
    given.clock.now = NOW + 39.999
    assert given.caller(token) == ALICE
    given.clock.now = NOW + 40
    with pytest.raises(TokenExpired):
        given.caller(token)


@pytest.mark.parametrize("claim", ["nbf", "iat"])
def test_a_token_is_accepted_from_30_seconds_before_nbf_and_iat(given: Given, keys: KeyPairs, claim: str) -> None:
    claims: dict[str, Any] = {claim: NOW + 10, "exp": NOW + 100}
    token = keys.token(**claims)
    given.clock.now = NOW - 20.001
    with pytest.raises(TokenNotYetValid):
        given.caller(token)
    given.clock.now = NOW - 20
    assert given.caller(token) == ALICE


# The cache of verified tokens


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_a_cached_token_costs_no_signature_check(
    given: Given, keys: KeyPairs, kind: str, verifications: list[str]
) -> None:
    token = keys.token(kind)
    for _ in range(100):
        assert given.caller(token) == ALICE
    assert [token] == verifications
    changed = token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]
    with pytest.raises(RequestError):
        given.caller(changed)


def test_a_refused_token_is_not_cached(given: Given, keys: KeyPairs, verifications: list[str]) -> None:
    token = keys.token(iss="other")
    for _ in range(2):
        with pytest.raises(TokenIssuer):
            given.caller(token)
    assert [token, token] == verifications


def test_the_cache_drops_the_least_recently_used_token(
    given: Given, keys: KeyPairs, verifications: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens_module, "MAX_REMEMBERED", 3)
    a, b, c, d = (keys.token(sub=user) for user in "abcd")
    for token in (a, b, c, a, d, a, c, d, b, a):
        given.caller(token)
    assert [a, b, c, d, b, a] == verifications
    assert len(given.tokens._known) == 3


# Scopes


@pytest.mark.parametrize(
    ("scope", "scopes"),
    [
        (..., set()),
        ("", set()),
        ("tasks.read", {"tasks.read"}),
        ("openid tasks.write  tasks.read", {"openid", "tasks.write", "tasks.read"}),
        ("tasks.read\ttasks.write", {"tasks.read\ttasks.write"}),
    ],
)
def test_scopes_are_separated_by_spaces(keys: KeyPairs, scope: Any, scopes: set[str]) -> None:
    given = Given(keys.published(), Expected(ISSUER, AUDIENCE, "permissions"))
    assert Caller("alice", frozenset(scopes)) == given.caller(keys.token(permissions=scope, scope="tasks.write"))


@pytest.mark.parametrize("scope", [None, 1, True, ["tasks.read"], {"tasks.read": True}])
def test_scopes_that_are_not_a_string_are_refused(keys: KeyPairs, scope: Any) -> None:
    given = Given(keys.published(), Expected(ISSUER, AUDIENCE, "scope"))
    with pytest.raises(TokenMalformed):
        given.caller(keys.token(scope=scope))
