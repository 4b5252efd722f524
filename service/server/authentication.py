"""Builds authentication from the settings.

The module `cryptography` is imported only if tokens or certificates are verified.
"""

import asyncio
import time
from collections.abc import Awaitable, Iterable
from typing import TYPE_CHECKING

from service.auth.claims import Expected
from service.auth.jwks import JwksFile, JwksSource, KeysError
from service.auth.metadata import caller_from_metadata
from service.auth.modes import User
from service.auth.peers import Peers
from service.config.names import PREFIX
from service.config.settings import Settings
from service.model import Caller
from service.readiness import NO_KEYS, Readiness
from service.rpc.policy import Access

if TYPE_CHECKING:
    from service.auth.keys import IssuerKeys, Keys
    from service.auth.tokens import TokenAuthentication
    from service.tls.certificates import Certificates


# Interval between looks at the files of certificates (s), and the number of looks between reports of what ends soon.
_LOOK_EVERY = 60.0
_LOOKS_PER_REPORT = 24 * 60


class Authentication:
    """Authenticates callers as the settings say. Create it in a running event loop, then `start` it.

    The process is not ready before the first keys of an issuer are loaded.
    """

    def __init__(self, settings: Settings, readiness: Readiness) -> None:
        self._source = settings.jwks
        self._readiness = readiness
        self._issuer: IssuerKeys | None = None
        self._keys = self._create_keys(settings) if settings.auth_rule.user is User.TOKEN else None
        self._tokens = _tokens(self._keys, settings) if self._keys else None
        self._refreshing: asyncio.Task[None] | None = None
        self._reporting: asyncio.Task[None] | None = None
        self._files = settings.tls
        self.peers = Peers(settings.client_names) if settings.client_names else None
        self.scopes = {Access.READ: settings.jwt_read_scope, Access.WRITE: settings.jwt_write_scope}

    @property
    def issuer_keys(self) -> "IssuerKeys | None":
        """The keys that an issuer publishes; None where no such keys are used."""
        return self._issuer

    def authenticate(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller | Awaitable[Caller]:
        """Return the caller, or an awaitable if the issuer must be asked for keys. Raises a RequestError."""
        return self._tokens.authenticate(metadata) if self._tokens else caller_from_metadata(metadata)

    async def start(self) -> None:
        """Start to refresh the issuer's keys in the background.

        The server starts without an issuer that is unreachable, is not ready and answers calls with UNAVAILABLE until
        it is back. A file without keys is permanent: it raises KeysError.
        """
        if self._issuer is None:
            return
        try:
            if isinstance(self._source, JwksFile):
                await self._issuer.load()
        except KeysError as error:
            raise _unusable(self._source, error) from error
        self._refreshing = asyncio.create_task(self._issuer.keep_fresh())

    def certificates(self) -> "Certificates | None":
        """Load the certificates; None without TLS. Raises CertificateError.

        Those that end soon are logged now and once a day.
        """
        if self._files is None:
            return None
        from service.tls.certificates import Certificates

        certificates = Certificates(self._files)
        self._reporting = asyncio.create_task(_follow(certificates))
        return certificates

    def stop(self) -> None:
        """Stop refreshing keys and reporting certificates."""
        for task in (self._refreshing, self._reporting):
            if task:
                task.cancel()

    def _create_keys(self, settings: Settings) -> "Keys":
        from service.auth.keys import IssuerKeys, SecretKey

        if settings.jwks:
            self._issuer = IssuerKeys(settings.jwks, time.monotonic, self._on_load)
            self._readiness.block(NO_KEYS, f"{self._source} has not been asked yet")
            return self._issuer
        assert settings.jwt_secret
        return SecretKey(settings.jwt_secret.get_secret_value())

    def _on_load(self, failure: str | None) -> None:
        assert self._issuer
        if self._issuer.is_loaded:
            self._readiness.unblock(NO_KEYS)
        else:
            self._readiness.block(NO_KEYS, f"{self._source}: {failure}")


async def _follow(certificates: "Certificates") -> None:
    """Look at the files once a minute, so that log and metrics know of renewed ones without any handshake."""
    while True:
        for _ in range(_LOOKS_PER_REPORT):
            await asyncio.sleep(_LOOK_EVERY)
            await asyncio.to_thread(certificates.latest)
        certificates.report()


def expected_of(settings: Settings) -> Expected:
    """Return the claims that tokens must have. With `auth` jwt, issuer and audience are set."""
    assert settings.jwt_issuer
    assert settings.jwt_audience
    return Expected(settings.jwt_issuer, settings.jwt_audience, settings.jwt_scope_claim)


def check_keys(settings: Settings) -> None:
    """Read the keys of the issuer once. Raises KeysError with a sentence for the operator."""
    if settings.jwks is None:
        return
    from service.auth.keys import KeySet

    try:
        KeySet(settings.jwks.read())
    except KeysError as error:
        raise _unusable(settings.jwks, error) from error


def _unusable(source: JwksSource | None, error: KeysError) -> KeysError:
    return KeysError(f"{PREFIX}JWT_JWKS: {source}: {error}")


def _tokens(keys: "Keys", settings: Settings) -> "TokenAuthentication":
    from service.auth.tokens import TokenAuthentication

    return TokenAuthentication(keys, expected_of(settings), time.time)
