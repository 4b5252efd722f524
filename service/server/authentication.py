"""The wiring of who is calling: what the settings say, made into one way to authenticate.

Cryptography is loaded only where tokens or certificates are to be verified.
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
    """Finds the caller of a call, as the settings say. Make it in a running event loop, and `start` it."""

    def __init__(self, settings: Settings) -> None:
        self._source = settings.jwks
        self._keys = _keys(settings) if settings.auth_rule.user is User.TOKEN else None
        self._tokens = _tokens(self._keys, settings) if self._keys else None
        self._keeping: asyncio.Task[None] | None = None
        self._files = settings.tls
        self.peers = Peers(settings.client_names) if settings.client_names else None
        self.scopes = {Access.READ: settings.jwt_read_scope, Access.WRITE: settings.jwt_write_scope}

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | Awaitable[Caller]:
        """The caller whom a call's metadata names, at once where nobody has to be asked. Raises a RequestError."""
        return self._tokens.authenticate(metadata) if self._tokens else caller_from_metadata(metadata)

    async def start(self) -> None:
        """Begin to keep an issuer's keys fresh.

        An issuer that cannot be reached yet is no reason not to start: calls are UNAVAILABLE until it can be. Raises
        KeysError for a file without keys, which will not mend itself.
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
        self._keeping = asyncio.create_task(self._keys.keep_fresh())

    def certificates(self) -> "Certificates | None":
        """What to serve TLS with, if it is to be served. Raises CertificateError."""
        if self._files is None:
            return None
        from service.tls.certificates import Certificates

        return Certificates(self._files)

    def stop(self) -> None:
        """Ask the issuer no more."""
        if self._keeping:
            self._keeping.cancel()


def expected_of(settings: Settings) -> Expected:
    """What tokens must say. The settings' `auth` is jwt, and with that both are set."""
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
