"""On whose behalf calls are made: what their metadata say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

Metadata = tuple[tuple[str, str], ...]
Token = str | Callable[[], str]
"""A token, or what answers one: it is asked before every call, so it should keep the token until that expires."""
AsyncToken = Token | Callable[[], Awaitable[str]]
"""The same for asyncio, where what answers the token may also be awaited for."""
Caller = Callable[[], Metadata | Awaitable[Metadata]]
"""What the next call's metadata are."""


def nobody() -> Metadata:
    """A call that names no user."""
    return ()


def named(user: str) -> Caller:
    """A user whom the service takes at their word. Raises ValueError for what cannot be a user."""
    if not (0 < len(user) <= 255 and user.isascii() and user.isprintable() and " " not in user):
        raise ValueError(f"a user is 1 to 255 printable ASCII characters without spaces, and not {user!r}")
    metadata = (("x-user-id", user),)
    return lambda: metadata


def bearing(token: AsyncToken) -> Caller:
    """A user whom a token names. Raises ValueError, at once or with the call, for what cannot be a token."""
    if isinstance(token, str):
        metadata = _bearer(token)
        return lambda: metadata

    def asked() -> Metadata | Awaitable[Metadata]:
        answer = token()
        return _bearer(answer) if isinstance(answer, str) else awaited(answer)

    async def awaited(answer: Awaitable[str]) -> Metadata:
        return _bearer(await answer)

    return asked


def _bearer(token: str) -> Metadata:
    # gRPC's own complaint would show the token, and so would a log.
    if not (token and token.isascii() and token.isprintable()):
        raise ValueError("a token is printable ASCII, and not empty")
    return (("authorization", f"Bearer {token}"),)
