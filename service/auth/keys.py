"""Keys that verify tokens: those that an issuer publishes, refreshed in the background, or one shared secret."""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import structlog
from jwt import PyJWK, PyJWTError, get_algorithm_by_name

from service.auth.jwks import JwksSource, KeysError
from service.errors import KeysUnavailable
from service.outage import Outage
from service.strict_json import parse_object

_log = structlog.get_logger("auth")

# The type of a key decides its one algorithm (RFC 8725, 3.1). The header of a token has no say in it.
_ALGORITHMS = {("OKP", "Ed25519"): "EdDSA", ("EC", "P-256"): "ES256", ("RSA", None): "RS256"}

REFRESH_INTERVAL = 30.0
"""Minimum time between fetches that tokens with unknown keys cause, however many such tokens arrive (s)."""
_FRESH_INTERVAL = 600.0
"""Time between background fetches after a success (s)."""
_FIRST_INTERVAL = 2.0
"""Time between background fetches until the first success (s)."""
MAX_WAITING = 1000
"""Calls that may wait for one fetch; more are UNAVAILABLE, so that a slow issuer cannot fill our memory."""


class Keys(Protocol):
    """A source of keys that verify tokens."""

    def find(self, kid: str | None) -> PyJWK | None:
        """The key with this id. Without an id: the only key, if there is exactly one. None if there is no such key."""

    async def refresh(self) -> None:
        """Fetch the keys again, at most once per REFRESH_INTERVAL. Raises KeysUnavailable if none was ever loaded."""

    def when_changed(self, action: Callable[[], object]) -> None:
        """Call `action` whenever the keys have changed, so that verified tokens are not remembered any longer."""


class SecretKey:
    """One shared secret (HS256), whatever the `kid` of a token. Raises KeysError if it is too short (RFC 7518, 3.2)."""

    def __init__(self, secret: str) -> None:
        self._key = hmac_key(secret)

    def find(self, kid: str | None) -> PyJWK | None:  # noqa: ARG002 - there is only one
        return self._key

    async def refresh(self) -> None:
        """It never changes."""

    def when_changed(self, action: Callable[[], object]) -> None:
        """It never changes."""


class IssuerKeys:
    """The keys that an issuer publishes, fetched in a thread. During an outage of the issuer the last good keys stay.

    `clock` is monotonic (s). Keys are there after `load`, and while `keep_fresh` runs. `on_load` is called after each
    fetch, with the reason if it failed, else None.
    """

    def __init__(
        self,
        source: JwksSource,
        clock: Callable[[], float],
        on_load: Callable[[str | None], object] = lambda _: None,
    ) -> None:
        self._source = source
        self._clock = clock
        self._on_load = on_load
        self._content = b""
        self._keys: KeySet | None = None
        self._asked_at = float("-inf")
        self._flight: asyncio.Task[None] | None = None
        self._waiting = 0
        self._outage = Outage("keys not read", "keys read again", clock=clock)
        self.refreshes = {"ok": 0, "failed": 0}
        """Attempts to read the keys, by outcome."""
        self._read_at: float | None = None
        self._changed: list[Callable[[], object]] = []

    def find(self, kid: str | None) -> PyJWK | None:
        return self._keys.find(kid) if self._keys else None

    @property
    def is_loaded(self) -> bool:
        """True once keys were fetched."""
        return self._keys is not None

    def when_changed(self, action: Callable[[], object]) -> None:
        self._changed.append(action)

    def last_read_at(self) -> float:
        """The last time that the keys were read (Unix time), 0 for never."""
        return 0.0 if self._read_at is None else time.time() - (self._clock() - self._read_at)

    async def refresh(self) -> None:
        """Wait for the fetch in progress, or start one if the last began at least REFRESH_INTERVAL ago."""
        if self._flight or self._clock() - self._asked_at >= REFRESH_INTERVAL:
            await self._wait()
        if self._keys is None:
            raise KeysUnavailable

    async def load(self) -> None:
        """Fetch the keys now. Raises KeysError if the source has none."""
        self._asked_at = self._clock()
        try:
            content, keys = await asyncio.to_thread(self._read)
        except Exception as error:
            self.refreshes["failed"] += 1
            self._on_load(str(error))
            raise
        self.refreshes["ok"] += 1
        self._read_at = self._clock()
        if content != self._content:
            self._content, self._keys = content, keys
            _log.info("keys read", source=str(self._source), kids=keys.kids)
            for action in self._changed:
                action()
        self._on_load(None)

    async def keep_fresh(self, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Fetch the keys periodically until cancelled. No failure of the issuer ends the loop."""
        while True:
            await self._ask()
            await sleep(self._pause())

    async def _wait(self) -> None:
        if self._waiting >= MAX_WAITING:
            raise KeysUnavailable
        self._waiting += 1
        try:
            await self._ask()
        finally:
            self._waiting -= 1

    async def _ask(self) -> None:
        """Join the fetch in progress, or start one. It continues when the calls that wait for it are cancelled."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._load_or_log())
        await asyncio.shield(self._flight)

    async def _load_or_log(self) -> None:
        try:
            await self.load()
            self._outage.end()
        except Exception as error:  # noqa: BLE001 - whatever an issuer sends, the last good keys stay
            self._outage.begin(str(error), source=str(self._source), kept=self._keys is not None)
        finally:
            self._flight = None

    def _read(self) -> tuple[bytes, KeySet]:
        content = self._source.read()
        return content, KeySet(content)

    def _pause(self) -> float:
        if self._keys is None:
            return _FIRST_INTERVAL
        return REFRESH_INTERVAL if self._outage.is_on else _FRESH_INTERVAL


class KeySet:
    """The usable keys of one JWKS. Raises KeysError if it is not a JWKS or has no usable key."""

    def __init__(self, jwks: bytes) -> None:
        try:
            published = parse_object(jwks).get("keys")
        except ValueError as error:
            raise KeysError(f"not a JWKS (RFC 7517): it {error}") from error
        usable = [key for jwk in published if (key := _usable(jwk))] if isinstance(published, list) else []
        if not usable:
            raise KeysError("not a JWKS (RFC 7517) with a public key for EdDSA (Ed25519), ES256 or RS256 (2048 bits)")
        self._only = usable[0] if len(usable) == 1 else None
        # Key ids should be unique (RFC 7517, 4.5). If two keys share one, the first key keeps it.
        self._named = {key.key_id: key for key in reversed(usable) if key.key_id is not None}

    @property
    def kids(self) -> list[str]:
        return sorted(self._named)

    def find(self, kid: str | None) -> PyJWK | None:
        return self._only if kid is None else self._named.get(kid)


def hmac_key(secret: str) -> PyJWK:
    """The HS256 key of a shared secret. Raises KeysError if it is too short, or is the PEM of an asymmetric key."""
    encoded = urlsafe_b64encode(secret.encode()).rstrip(b"=").decode()
    return _key({"kty": "oct", "k": encoded}, "HS256")


def _usable(jwk: Any) -> PyJWK | None:  # noqa: ANN401 - any JSON
    """The key, if it is a public signature key for one of our algorithms; else None."""
    if not isinstance(jwk, dict) or not isinstance(jwk.get("kid", ""), str):
        return None
    kind = (str(jwk.get("kty")), str(jwk["crv"]) if "crv" in jwk else None)
    algorithm = _ALGORITHMS.get(kind)
    # A published private key (d) is compromised: ignore it.
    if algorithm is None or jwk.get("alg", algorithm) != algorithm or jwk.get("use", "sig") != "sig" or "d" in jwk:
        return None
    try:
        return _key(jwk, algorithm)
    except KeysError:
        return None


def _key(jwk: dict[str, Any], algorithm: str) -> PyJWK:
    """Build the key for this algorithm. Raises KeysError if it is invalid or too short."""
    try:
        key = PyJWK(jwk, algorithm)
        checks = get_algorithm_by_name(algorithm)
        weakness = checks.check_key_length(checks.prepare_key(key.key))
    except PyJWTError as error:
        raise KeysError(str(error)) from None
    if weakness:
        raise KeysError(weakness)
    return key
