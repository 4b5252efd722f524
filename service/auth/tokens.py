"""Authentication by a JSON Web Token in the metadata key `authorization`.

`x-user-id` is ignored, and so are keys that come with a token (jwk, jku, x5u, x5c).
"""

import binascii
import hashlib
import re
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from jwt import InvalidAlgorithmError, InvalidSignatureError, PyJWK, PyJWS, PyJWTError

from service.auth.claims import Expected, Verified, read_claims
from service.auth.keys import Keys
from service.errors import TokenMalformed, TokenMissing, TokenSignature, TokenTooLarge
from service.model import Caller
from service.strict_json import parse_object

MAX_BYTES = 8 * 1024
"""Longest token that is accepted (bytes)."""
MAX_REMEMBERED = 10_000
"""Size of the cache of verified tokens; the least recently used token is dropped first."""

_KEY, _BINARY_KEY = "authorization", "authorization-bin"
_SCHEME = re.compile(r"(?i:bearer) +")  # RFC 9110, 11.1
# Three parts in base64url without padding (RFC 7515, 7.1): excludes unsigned and encrypted tokens.
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
# A token signed for another purpose must not pass for an access token (RFC 8725, 3.11; RFC 9068, 4).
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})

_jws = PyJWS()


class TokenAuthentication:
    """Finds the caller of a signed token.

    Verified tokens are cached by their SHA-256 until they expire or the keys change, so that a token's second call
    costs a hash and a lookup. `clock` returns the time (s since 1970).
    """

    def __init__(self, keys: Keys, expected: Expected, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._expected = expected
        self._clock = clock
        self._known: OrderedDict[bytes, Verified] = OrderedDict()
        keys.when_changed(self._known.clear)

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | Awaitable[Caller]:
        """The caller; an awaitable if the token's key must be fetched from the issuer first.

        Raises a RequestError that maps to UNAUTHENTICATED, or KeysUnavailable.
        """
        token = bearer_token(metadata)
        # Characters that cannot be encoded become question marks, which no valid token has.
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._known.get(digest)
        if known and self._clock() < known.expires_at:
            self._known.move_to_end(digest)
            return known.caller
        kid = _kid(token)
        key = self._keys.find(kid)
        return self._verify(token, digest, key) if key else self._verify_later(token, digest, kid)

    async def _verify_later(self, token: str, digest: bytes, kid: str | None) -> Caller:
        await self._keys.refresh()
        key = self._keys.find(kid)
        if key is None:
            raise TokenSignature
        return self._verify(token, digest, key)

    def _verify(self, token: str, digest: bytes, key: PyJWK) -> Caller:
        verified = read_claims(_verified_claims(token, key), self._expected, self._clock())
        self._known[digest] = verified
        self._known.move_to_end(digest)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return verified.caller


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The bearer token of a call's metadata (RFC 6750, 2.1), not yet verified.

    Raises TokenMissing, TokenTooLarge, or TokenMalformed if the key is repeated. (Behind a gateway that appends the key
    instead of replacing it, a client could otherwise choose its own token.)
    """
    given = [value for key, value in metadata if key in {_KEY, _BINARY_KEY}]
    if not given:
        raise TokenMissing
    value = given[0]
    if len(given) > 1 or not isinstance(value, str) or not (scheme := _SCHEME.match(value)):
        raise TokenMalformed(problem="authorization must be given once, as 'Bearer', a space and a JSON Web Token")
    token = value[scheme.end() :]
    if len(token) > MAX_BYTES:
        raise TokenTooLarge(size=len(token), limit=MAX_BYTES)
    return token


def _kid(token: str) -> str | None:
    """The key id in a token's header. Nothing else in the header is used."""
    header = _header(token)
    # Tokens with extensions that the reader does not know must be rejected (RFC 7515, 4.1.11); we know none.
    if "crit" in header or "b64" in header:
        raise TokenMalformed(problem="its header has extensions that this server does not know")
    if "typ" in header and str(header["typ"]).lower() not in _TYPES:
        raise TokenMalformed(problem="its type (typ) is neither JWT nor at+jwt")
    kid = header.get("kid")
    if not isinstance(kid, str | None):
        raise TokenMalformed(problem="its key's name (kid) is not a text")
    return kid


def _header(token: str) -> dict[str, Any]:
    if not _TOKEN.fullmatch(token):
        raise TokenMalformed(problem="it is not three parts in base64url with dots between them")
    encoded = token.partition(".")[0]
    try:
        return parse_object(urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)))
    except binascii.Error:
        raise TokenMalformed(problem="its header is cut off") from None
    except ValueError as error:
        raise TokenMalformed(problem=f"its header {error}") from None


def _verified_claims(token: str, key: PyJWK) -> dict[str, Any]:
    """Verify the signature with this key and its algorithm, and return the claims."""
    try:
        # PyJWT's messages may quote the token, so they are dropped.
        payload = _jws.decode(token, key)  # by the key's algorithm only, whatever the token's header says
    except (InvalidSignatureError, InvalidAlgorithmError):
        raise TokenSignature from None
    except PyJWTError:
        raise TokenMalformed(problem="it is not a signed JSON Web Token in canonical base64url") from None
    try:
        return parse_object(payload)
    except ValueError as error:
        raise TokenMalformed(problem=f"its payload {error}") from None
