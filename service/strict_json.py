"""Strict JSON parser: refuses duplicate members and other input that two parsers could read differently."""

import json
from typing import Any


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object in UTF-8.

    Raises ValueError for anything else, for duplicate members (RFC 7515, 4; RFC 7519, 4), for NaN and Infinity, and for
    input nested too deeply. The message quotes nothing of the input.
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
    """The input is JSON that this parser refuses."""


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise _Refused("a member is named twice")
    return value


def _refuse(_constant: str) -> None:
    raise _Refused("a number is none")
