"""Call credentials: the metadata that names the user of a call, or carries their token."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Metadata = tuple[tuple[str, str], ...]
Token = str | Callable[[], str]
"""A token, or a function that returns one. The function is called before every call, so it should cache the token."""
AsyncToken = Token | Callable[[], Awaitable[str]]
"""The same for asyncio, where the function may also be a coroutine function."""
Caller = Callable[[], Metadata | Awaitable[Metadata]]
"""Returns the metadata of the next call."""


def nobody() -> Metadata:
    """No metadata: the call names no user."""
    return ()


def named(user: str) -> Caller:
    """Metadata that names a user, for a service that trusts its callers. Raises ValueError for an invalid name."""
    if not (0 < len(user) <= 255 and user.isascii() and user.isprintable() and " " not in user):
        raise ValueError(f"a user is 1 to 255 printable ASCII characters without spaces, and not {user!r}")
    metadata = (("x-user-id", user),)
    return lambda: metadata


def bearing(token: AsyncToken) -> Caller:
    """Metadata with a bearer token. Raises ValueError for an invalid token, at once or when the call is made."""
    if isinstance(token, str):
        metadata = _bearer(token)
        return lambda: metadata

    def fetched() -> Metadata | Awaitable[Metadata]:
        found = token()
        return _bearer(found) if isinstance(found, str) else awaited(found)

    async def awaited(found: Awaitable[str]) -> Metadata:
        return _bearer(await found)

    return fetched


def _bearer(token: str) -> Metadata:
    # gRPC's own error message would show the token, and the program may log that message.
    if not (token and token.isascii() and token.isprintable()):
        raise ValueError("a token is printable ASCII, and not empty")
    return (("authorization", f"Bearer {token}"),)
