"""The caller as a JSON Web Token names them: the metadata key `authorization`, and no other.

`x-user-id` is never read here, and neither is a key that comes with a token (jwk, jku, x5u, x5c).
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

MOST_BYTES = 8 * 1024
"""The longest token that is taken (bytes)."""
MOST_REMEMBERED = 10_000
"""How many verified tokens are remembered; the one that was used least recently is forgotten first."""

_KEY, _BINARY_KEY = "authorization", "authorization-bin"
_SCHEME = re.compile(r"(?i:bearer) +")  # RFC 9110, 11.1
# Three parts in base64url without padding (RFC 7515, 7.1): neither an unsigned token nor an encrypted one.
_TOKEN = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
# What is signed for another purpose must not pass for an access token (RFC 8725, 3.11; RFC 9068, 4).
_TYPES = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})

_jws = PyJWS()


class TokenAuthentication:
    """Finds out who is calling from a signed token.

    A token whose signature was verified is known by its SHA-256 until it expires or the keys change; to see it again
    costs a hash and a look into a table. `clock` tells the time (s since 1970).
    """

    def __init__(self, keys: Keys, expected: Expected, clock: Callable[[], float]) -> None:
        self._keys = keys
        self._expected = expected
        self._clock = clock
        self._known: OrderedDict[bytes, Verified] = OrderedDict()
        keys.when_changed(self._known.clear)

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | Awaitable[Caller]:
        """The caller, at once if the token's key is at hand, else when the issuer has been asked.

        Raises a RequestError of the table's UNAUTHENTICATED, or KeysUnavailable.
        """
        token = bearer_token(metadata)
        # What cannot be encoded becomes a question mark, which no token that we know has.
        digest = hashlib.sha256(token.encode(errors="replace")).digest()
        known = self._known.get(digest)
        if known and self._clock() < known.ends:
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
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return verified.caller


def bearer_token(metadata: Iterable[tuple[str, str | bytes]]) -> str:
    """The one token that a call's metadata holds (RFC 6750, 2.1), whatever it looks like.

    Raises TokenMissing, TokenTooLarge, or TokenMalformed where there are several: a gateway that appends instead of
    replacing would otherwise let its client choose.
    """
    given = [value for key, value in metadata if key in {_KEY, _BINARY_KEY}]
    if not given:
        raise TokenMissing
    value = given[0]
    if len(given) > 1 or not isinstance(value, str) or not (scheme := _SCHEME.match(value)):
        raise TokenMalformed(problem="authorization must be given once, as 'Bearer', a space and a JSON Web Token")
    token = value[scheme.end() :]
    if len(token) > MOST_BYTES:
        raise TokenTooLarge(size=len(token), limit=MOST_BYTES)
    return token


def _kid(token: str) -> str | None:
    """The name of the key that a token says it is signed with: all that its header has a say in."""
    header = _header(token)
    # We understand no extension, and must then not go on (RFC 7515, 4.1.11).
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
        raise TokenMalformed(problem=f"its header is {error}") from None


def _verified_claims(token: str, key: PyJWK) -> dict[str, Any]:
    """The claims, if the token is signed with this key and by its algorithm."""
    try:
        # PyJWT's words may hold parts of the token; therefore they go nowhere.
        payload = _jws.decode(token, key)  # by the key's algorithm only, whatever the token's header says
    except (InvalidSignatureError, InvalidAlgorithmError):
        raise TokenSignature from None
    except PyJWTError:
        raise TokenMalformed(problem="it is not a signed JSON Web Token in canonical base64url") from None
    try:
        return parse_object(payload)
    except ValueError as error:
        raise TokenMalformed(problem=f"its payload is {error}") from None
