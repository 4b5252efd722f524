"""The keys that tokens are verified with: an issuer's, kept fresh, or one shared secret."""

from __future__ import annotations

import asyncio
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from jwt import PyJWK, PyJWTError, get_algorithm_by_name

from service.auth.jwks import JwksSource, KeysError
from service.errors import KeysUnavailable
from service.strict_json import parse_object

_log = structlog.get_logger("auth")

# A key is for one algorithm, which its type decides (RFC 8725, 3.1). What a token says of itself has no part in it.
_ALGORITHMS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}

ASKED_INTERVAL = 30.0
"""How often tokens with unknown keys can have the issuer asked: once in this time (s), however many they are."""
_FRESH_INTERVAL = 600.0
"""After a good answer the issuer is asked again in this time (s)."""
_FIRST_INTERVAL = 2.0
"""Until the first good answer it is asked in this time (s)."""
MOST_WAITING = 1000
"""How many calls wait for one answer; more are told to come again, so that a slow issuer cannot fill our memory."""


class Keys(Protocol):
    """Where a token's key is found."""

    def find(self, kid: str | None) -> PyJWK | None:
        """The key of this name; without a name the only key, if there is but one. None if there is no such key."""

    async def refresh(self) -> None:
        """Ask for new keys, if that may be. Raises KeysUnavailable if there has never been any."""

    def when_changed(self, action: Callable[[], object]) -> None:
        """Do this whenever the keys have changed: what was verified with the old ones must be verified anew."""


class SecretKey:
    """One shared secret (HS256) for tokens of every `kid`. Raises KeysError if it cannot be one: see RFC 7518, 3.2."""

    def __init__(self, secret: str) -> None:
        self._key = hmac_key(secret)

    def find(self, kid: str | None) -> PyJWK | None:  # noqa: ARG002 - there is only one
        return self._key

    async def refresh(self) -> None:
        """It never changes."""

    def when_changed(self, action: Callable[[], object]) -> None:
        """It never changes."""


class IssuerKeys:
    """The keys that an issuer publishes, asked for off the event loop; the last good ones survive its outage.

    `clock` is a monotonic one (s). `load` must have succeeded before, or `keep_fresh` must run.
    """

    def __init__(self, source: JwksSource, clock: Callable[[], float]) -> None:
        self._source = source
        self._clock = clock
        self._content = b""
        self._keys: KeySet | None = None
        self._asked_at = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._waiting = 0
        self._failed = False
        self._changed: list[Callable[[], object]] = []

    def find(self, kid: str | None) -> PyJWK | None:
        return self._keys.find(kid) if self._keys else None

    def when_changed(self, action: Callable[[], object]) -> None:
        self._changed.append(action)

    async def refresh(self) -> None:
        """Wait for the answer that is under way, or ask if nobody did so within ASKED_INTERVAL."""
        if self._flight or self._clock() - self._asked_at >= ASKED_INTERVAL:
            await self._wait()
        if self._keys is None:
            raise KeysUnavailable

    async def load(self) -> None:
        """Ask now. Raises KeysError if the source does not answer with keys."""
        self._asked_at = self._clock()
        content, keys = await asyncio.to_thread(self._read)
        if content != self._content:
            self._content, self._keys = content, keys
            _log.info("keys read", source=str(self._source), kids=keys.kids)
            for action in self._changed:
                action()

    async def keep_fresh(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Ask again and again, until cancelled. Nothing that the issuer does ends this."""
        while True:
            await self._ask()
            await sleep(self._pause())

    async def _wait(self) -> None:
        if self._waiting >= MOST_WAITING:
            raise KeysUnavailable
        self._waiting += 1
        try:
            await self._ask()
        finally:
            self._waiting -= 1

    async def _ask(self) -> None:
        """One question at a time, whoever wants to know; it goes on when those who asked have gone."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._load_or_log())
        await asyncio.shield(self._flight)

    async def _load_or_log(self) -> None:
        try:
            await self.load()
            self._failed = False
        except Exception as error:  # noqa: BLE001 - whatever an issuer sends, the last good keys stand
            self._failed = True
            _log.warning("keys not read", source=str(self._source), cause=str(error), kept=self._keys is not None)
        finally:
            self._flight = None

    def _read(self) -> tuple[bytes, KeySet]:
        content = self._source.read()
        return content, KeySet(content)

    def _pause(self) -> float:
        if self._keys is None:
            return _FIRST_INTERVAL
        return ASKED_INTERVAL if self._failed else _FRESH_INTERVAL


class KeySet:
    """The keys of one JWKS that can verify a token. Raises KeysError if it is none or has none."""

    def __init__(self, jwks: bytes) -> None:
        try:
            published = parse_object(jwks).get("keys")
        except ValueError as error:
            raise KeysError(f"not a JWKS (RFC 7517): {error}") from error
        usable = [key for jwk in published if (key := _usable(jwk))] if isinstance(published, list) else []
        if not usable:
            raise KeysError("not a JWKS (RFC 7517) with a public key for EdDSA (Ed25519), ES256 or RS256 (2048 bits)")
        self._only = usable[0] if len(usable) == 1 else None
        # Names should differ (RFC 7517, 4.5). Where they do not, the first key has it: a token must not choose.
        self._named = {key.key_id: key for key in reversed(usable) if key.key_id is not None}

    @property
    def kids(self) -> list[str]:
        return sorted(self._named)

    def find(self, kid: str | None) -> PyJWK | None:
        return self._only if kid is None else self._named.get(kid)


def hmac_key(secret: str) -> PyJWK:
    """The key that a shared secret is. Raises KeysError if it is too short, or looks like a key of another kind."""
    encoded = urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    return _key({"kty": "oct", "k": encoded}, "HS256")


def _usable(jwk: Any) -> PyJWK | None:  # noqa: ANN401 - any JSON
    """The key, if it is a public one for signatures and of a kind that we take."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid", ""), str):
        return None
    kind = (str(jwk.get("kty")), str(jwk["crv"]) if "crv" in jwk else None)
    algorithm = _ALGORITHMS.get(kind)
    # Private keys (d) are left alone too: whoever publishes one has lost it.
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        return _key(jwk, algorithm)
    except KeysError:
        return None


def _key(jwk: dict[str, Any], algorithm: str) -> PyJWK:
    """The key for this algorithm. Raises KeysError if it is none, or too short for it."""
    try:
        key = PyJWK(jwk, algorithm)
        checks = get_algorithm_by_name(algorithm)
        weakness = checks.check_key_length(checks.prepare_key(key.key))
    except PyJWTError as error:
        raise KeysError(str(error)) from None
    if weakness:
        raise KeysError(weakness)
    return key
