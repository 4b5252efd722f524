"""Loads the settings from flags, the environment and `.env`, in that order of precedence."""

import difflib
import os
from typing import Any

from pydantic import ValidationError

from service.config.field_types import PREFIX
from service.config.settings import Settings


def load_settings(program: str, arguments: list[str]) -> Settings:
    """Load the settings; `arguments` are the flags after the command `program`.

    Raises SettingsError with a line for each invalid setting. Exits like argparse for --help and for unknown flags.
    """
    try:
        settings: Settings = _settings_class(program)(_cli_parse_args=arguments)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(each) for each in error.errors())) from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"the file .env cannot be read as UTF-8 text: {error}") from None
    _refuse_misspelled()
    return settings


class SettingsError(Exception):
    """Invalid settings; the message names each one and says what to change."""


def _refuse_misspelled() -> None:
    """Raise SettingsError for a variable whose name is close to that of a setting: it would be ignored."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known and (near := difflib.get_close_matches(name, known, 1, 0.85)):
            raise SettingsError(f"{name}: there is no such setting; did you mean {near[0]}?")


def _settings_class(program: str) -> Any:  # noqa: ANN401 - Settings, with another program name in --help
    return type("Settings", (Settings,), {"__doc__": Settings.__doc__, "model_config": {"cli_prog_name": program}})


def _sentence(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    return f"{PREFIX}{str(error['loc'][0]).upper()}: {message[0].lower()}{message[1:]}"
