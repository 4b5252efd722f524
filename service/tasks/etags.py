"""Etags: encoded versions of tasks."""

import re

_ETAG = re.compile(r"[1-9a-f][0-9a-f]{0,14}")

NO_VERSION = 0
"""The version of an etag that we never issued. No task has it: versions start at 1."""


def etag_of(version: int) -> str:
    """The etag of a task at this version."""
    return f"{version:x}"


def version_of(etag: str) -> int | None:
    """The version that an etag encodes. None for an empty etag, NO_VERSION if we cannot have issued it."""
    if not etag:
        return None
    return int(etag, 16) if _ETAG.fullmatch(etag) else NO_VERSION
