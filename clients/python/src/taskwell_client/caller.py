"""Call credentials: the metadata that names the user of a call, or carries their token."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from taskwell_client import arguments

Metadata = tuple[tuple[str, str], ...]
Token = str | Callable[[], str]
"""A token, or a function that returns one. The function is called before every call, so it should cache the token."""
AsyncToken = Token | Callable[[], Awaitable[str]]
"""The same for asyncio, where the function may also be a coroutine function."""


@dataclass(frozen=True)
class Caller:
    """The caller of a client's calls."""

    metadata: Callable[[], Metadata | Awaitable[Metadata]] = tuple
    """Returns the metadata of the next call."""
    shown: str = ""
    """The caller in the repr of a client: the user, but never a token."""


NOBODY = Caller()
"""No metadata: the call names no user."""


def named(user: str) -> Caller:
    """Metadata that names a user, for a service that trusts its callers. Raises InvalidArgument for an invalid name."""
    user = arguments.text("user", user)
    if not (0 < len(user) <= 255 and user.isascii() and user.isprintable() and " " not in user):
        raise arguments.invalid("user", f"must be 1 to 255 printable ASCII characters without spaces, and not {user!r}")
    metadata = (("x-user-id", user),)
    return Caller(lambda: metadata, f"user={user!r}")


def bearing(token: AsyncToken, *, may_await: bool) -> Caller:
    """Metadata with a bearer token. Raises InvalidArgument for an invalid token, at once or when the call is made."""
    if isinstance(token, str):
        metadata = _bearer(token)
        return Caller(lambda: metadata, "token=...")
    if not callable(token):
        raise TypeError(f"token must be a str or a function that returns one, and not {type(token).__name__}")

    def fetched() -> Metadata | Awaitable[Metadata]:
        found = token()
        if not inspect.isawaitable(found):
            return _bearer(found)
        if may_await:
            return awaited(found)
        if inspect.iscoroutine(found):
            found.close()
        raise TypeError("token must be a function that returns a str: only connect_async takes a coroutine function")

    async def awaited(found: Awaitable[str]) -> Metadata:
        return _bearer(await found)

    return Caller(fetched, "token=...")


def _bearer(token: object) -> Metadata:
    # gRPC's own error message would show the token, and the program may log that message.
    if not isinstance(token, str):
        raise TypeError(f"token must be a str, and its function must return one, and not {type(token).__name__}")
    if not (token and token.isascii() and token.isprintable()):
        raise arguments.invalid("token", "must be printable ASCII, without a line end, and not empty")
    return (("authorization", f"Bearer {token}"),)
