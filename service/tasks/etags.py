"""Etags: made from a task's version, and read back."""

import re

_ETAG = re.compile(r"[1-9a-f][0-9a-f]{0,14}")

NO_VERSION = 0
"""The version that no task has: what an etag that we never made stands for. Versions start at 1."""


def etag_of(version: int) -> str:
    """The etag of a task at this version."""
    return f"{version:x}"


def version_of(etag: str) -> int | None:
    """The version that an etag names: None where none is given, NO_VERSION where it cannot be one of ours."""
    if not etag:
        return None
    return int(etag, 16) if _ETAG.fullmatch(etag) else NO_VERSION
