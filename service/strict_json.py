"""JSON as a token may have it: one reading and no other, so that no two readers can see different things in it."""

import json
from typing import Any


def parse_object(text: bytes) -> dict[str, Any]:
    """Read a JSON object in UTF-8.

    Raises ValueError for anything else: a member named twice (RFC 7515, 4; RFC 7519, 4), NaN and Infinity, and what is
    nested too deeply to be read. The message holds nothing of the text.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except _Refused:
        raise
    except (ValueError, RecursionError):
        raise ValueError("not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise _Refused("not a JSON object")
    return value


class _Refused(ValueError):
    """It is JSON, of a kind that we do not take."""


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise _Refused("a member is named twice")
    return value


def _refuse(_constant: str) -> None:
    raise _Refused("a number is none")
