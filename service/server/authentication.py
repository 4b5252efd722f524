"""Builds authentication from the settings.

The module `cryptography` is imported only if tokens or certificates are verified.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

from service.auth.claims import Expected
from service.auth.jwks import JwksFile, KeysError
from service.auth.metadata import caller_from_metadata
from service.auth.modes import User
from service.auth.peers import Peers
from service.config.field_types import PREFIX
from service.config.settings import Settings
from service.model import Caller
from service.rpc.policy import Access

if TYPE_CHECKING:
    from service.auth.keys import Keys
    from service.auth.tokens import TokenAuthentication
    from service.tls.certificates import Certificates


class Authentication:
    """Authenticates callers as the settings say. Create it in a running event loop, then `start` it."""

    def __init__(self, settings: Settings) -> None:
        self._source = settings.jwks
        self._keys = _keys(settings) if settings.auth_rule.user is User.TOKEN else None
        self._tokens = _tokens(self._keys, settings) if self._keys else None
        self._refreshing: asyncio.Task[None] | None = None
        self._files = settings.tls
        self.peers = Peers(settings.client_names) if settings.client_names else None
        self.scopes = {Access.READ: settings.jwt_read_scope, Access.WRITE: settings.jwt_write_scope}

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | Awaitable[Caller]:
        """Return the caller, or an awaitable if the issuer must be asked for keys. Raises a RequestError."""
        return self._tokens.authenticate(metadata) if self._tokens else caller_from_metadata(metadata)

    async def start(self) -> None:
        """Start to refresh the issuer's keys in the background.

        The server starts without an issuer that is unreachable, and calls are UNAVAILABLE until it is back. A file
        without keys is permanent: it raises KeysError.
        """
        if self._keys is None:
            return
        from service.auth.keys import IssuerKeys

        if not isinstance(self._keys, IssuerKeys):
            return
        try:
            if isinstance(self._source, JwksFile):
                await self._keys.load()
        except KeysError as error:
            raise KeysError(f"{PREFIX}JWT_JWKS: {self._source}: {error}") from error
        self._refreshing = asyncio.create_task(self._keys.keep_fresh())

    def certificates(self) -> "Certificates | None":
        """Load the certificates; None without TLS. Raises CertificateError."""
        if self._files is None:
            return None
        from service.tls.certificates import Certificates

        return Certificates(self._files)

    def stop(self) -> None:
        """Stop refreshing keys."""
        if self._refreshing:
            self._refreshing.cancel()


def expected_of(settings: Settings) -> Expected:
    """Return the claims that tokens must have. With `auth` jwt, issuer and audience are set."""
    assert settings.jwt_issuer
    assert settings.jwt_audience
    return Expected(settings.jwt_issuer, settings.jwt_audience, settings.jwt_scope_claim)


def _keys(settings: Settings) -> "Keys":
    from service.auth.keys import IssuerKeys, SecretKey

    if settings.jwks:
        return IssuerKeys(settings.jwks, time.monotonic)
    assert settings.jwt_secret
    return SecretKey(settings.jwt_secret.get_secret_value())


def _tokens(keys: "Keys", settings: Settings) -> "TokenAuthentication":
    from service.auth.tokens import TokenAuthentication

    return TokenAuthentication(keys, expected_of(settings), time.time)
