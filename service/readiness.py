"""Readiness of this process: the reasons why it should get no calls."""

import asyncio
from collections.abc import Mapping

STARTING = "the server is starting"
NO_KEYS = "the keys that verify tokens have not been read"
SHUTTING_DOWN = "the server is shutting down"


class Readiness:
    """Ready while there is no reason against it. Only the event loop changes it; any thread may read it."""

    def __init__(self) -> None:
        self._reasons: Mapping[str, str] = {}
        self._change = asyncio.Event()

    @property
    def is_ready(self) -> bool:
        return not self._reasons

    @property
    def reasons(self) -> Mapping[str, str]:
        """The reasons, each with details for operators, which may be empty."""
        return self._reasons

    @property
    def change(self) -> asyncio.Event:
        """An event that is set at the next change."""
        return self._change

    def block(self, reason: str, details: str = "") -> None:
        """Be not ready until the reason is removed. A later call replaces its details."""
        self._set({**self._reasons, reason: details})

    def unblock(self, reason: str) -> None:
        """Remove a reason, if it is there."""
        self._set({name: details for name, details in self._reasons.items() if name != reason})

    def _set(self, reasons: Mapping[str, str]) -> None:
        self._reasons = reasons
        self._change.set()
        self._change = asyncio.Event()
