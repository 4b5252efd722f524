"""Strict JSON, for tokens and REST bodies: no text that two parsers could read in two ways."""

import json
from typing import Any


def parse_object(text: bytes) -> dict[str, Any]:
    """Parse a JSON object in UTF-8.

    Raises ValueError for anything else: a member named twice (RFC 7515, 4; RFC 7519, 4), NaN and Infinity, and what is
    nested too deeply. The message completes "It …" and holds nothing of the text.
    """
    try:
        value = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_refuse)
    except _Refused:
        raise
    except UnicodeDecodeError:
        problem = "is not UTF-8"
    except json.JSONDecodeError as error:
        problem = f"is not JSON ({error.msg}, line {error.lineno} column {error.colno})" if text.strip() else "is empty"
    except RecursionError:
        problem = "is nested too deeply"
    except ValueError:
        problem = "has a number of too many digits"
    else:
        if isinstance(value, dict):
            return value
        problem = "is not a JSON object"
    raise ValueError(problem)


class _Refused(ValueError):
    """The text is JSON, of a kind that is not accepted."""


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    if len(value) != len(members):
        raise _Refused("names a member twice")
    return value


def _refuse(constant: str) -> None:
    raise _Refused(f"has {constant}, which is not JSON")
