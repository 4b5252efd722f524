"""Reads a few settings without pydantic, whose import costs more than a health check may.

The values are not verified: the server that has the same settings has done that.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from service.config.names import ENV_FILE, PREFIX


class OtherFlags(Exception):
    """There are flags of other settings."""


def read_few_settings(defaults: Mapping[str, str], arguments: Sequence[str]) -> dict[str, str]:
    """Return the values of these settings, from flags, the environment and `.env`, in that order of precedence.

    A setting without a value has its default. Raises OtherFlags if the arguments are not flags of these settings,
    ValueError if `.env` is not text.
    """
    found = dict(defaults)
    for variables in (_variables_in_file(), os.environ, dict(_flags(arguments, defaults))):
        for variable, value in variables.items():
            name = variable.upper().removeprefix(PREFIX).lower()
            if value and name in defaults and variable.upper().startswith(PREFIX):
                found[name] = value.rstrip("\r\n")
    return found


def _flags(arguments: Sequence[str], names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    remaining = iter(arguments)
    for argument in remaining:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not flag.startswith("--") or name not in names:
            raise OtherFlags
        if not equals and (value := next(remaining, "")) == "":
            raise OtherFlags
        yield f"{PREFIX}{name}", value


def _variables_in_file() -> Mapping[str, str | None]:
    if not Path(ENV_FILE).is_file():
        return {}
    from dotenv import dotenv_values

    return dotenv_values(ENV_FILE, encoding="utf-8")
