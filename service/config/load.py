"""Loads the settings from flags, the environment and `.env`, in that order of precedence."""

import difflib
import logging
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import ValidationError
from pydantic_settings import SettingsError as CliError

from service.config.names import ENV_FILE, PREFIX
from service.config.settings import Settings

# The variables of the command line client, which may stand in the same file.
_CLIENT_PREFIX = f"{PREFIX}CLIENT_"


def load_settings(program: str, arguments: list[str]) -> Settings:
    """Load the settings; `arguments` are the flags after the command `program`.

    Raises SettingsError with a line for each invalid setting. Exits for --help, like argparse.
    """
    try:
        if not {"--help", "-h"}.intersection(arguments):
            _refuse_misspelled()
        settings: Settings = _settings_class(program)(_cli_parse_args=arguments)
    except CliError as error:
        raise SettingsError(f"{_problem(error)}: '{program} --help' lists the flags") from None
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(each) for each in error.errors())) from None
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"the file .env cannot be read as UTF-8 text: {error}") from None
    return settings


def log_format_of(arguments: list[str]) -> str:
    """Return the format of the log as far as it can be told when the settings are invalid."""
    name = "log_format"
    flag = f"--{name.replace('_', '-')}"
    for at, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
        if argument == flag:
            return (arguments[at + 1 :] or ["auto"])[0]
    given: dict[str, str | None] = {}
    with suppress(OSError, UnicodeError, SettingsError):
        given |= _variables_in_file(Path(ENV_FILE))
    given |= os.environ
    found = [value for each, value in given.items() if value and each.upper() == f"{PREFIX}{name.upper()}"]
    return found[-1] if found else "auto"


class SettingsError(Exception):
    """Invalid settings; the message names each one and says what to change."""


def _refuse_misspelled() -> None:
    """Raise SettingsError for a variable that is meant to be a setting and would be ignored.

    In the environment that is one with a name close to that of a setting: Kubernetes sets others with our prefix. In
    `.env` it is any other name with our prefix as well, and a line that is no variable at all.
    """
    for name in os.environ:
        _refuse_if_misspelled(name)
    for name, value in _variables_in_file(Path(ENV_FILE)).items():
        known = _refuse_if_misspelled(name, ENV_FILE)
        if value is None and known:
            raise SettingsError(f"{name}: has no value in the file {ENV_FILE}: write {name}=value")
        if not known and name.upper().startswith(PREFIX) and not name.upper().startswith(_CLIENT_PREFIX):
            raise SettingsError(f"{name}: there is no such setting (in the file {ENV_FILE})")


def _refuse_if_misspelled(name: str, file: str = "") -> bool:
    """Return True for the name of a setting, and raise SettingsError for a name close to it."""
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    if name.upper() in known:
        return True
    is_meant = bool(difflib.get_close_matches(name[: len(PREFIX)].upper(), [PREFIX], 1, 0.75))
    if is_meant and (near := difflib.get_close_matches(name.upper(), known, 1, 0.85)):
        where = f" (in the file {file})" if file else ""
        raise SettingsError(f"{name}: there is no such setting; did you mean {near[0]}?{where}")
    return False


def _variables_in_file(path: Path) -> dict[str, str | None]:
    """The variables in a file. Raises SettingsError for a line that is none, which python-dotenv only logs."""
    if not path.is_file():
        return {}
    complaints = _Complaints()
    logger = logging.getLogger("dotenv")
    logger.addHandler(complaints)
    try:
        variables = dotenv_values(path, encoding="utf-8")
    finally:
        logger.removeHandler(complaints)
    if complaints.lines:
        raise SettingsError(f"the file {path}, line {complaints.lines[0]}: is not of the form NAME=value")
    return variables


class _Complaints(logging.Handler):
    """Collects the numbers of the lines that python-dotenv cannot parse."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[object] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += record.args if isinstance(record.args, tuple) else []


def _problem(error: CliError) -> str:
    """Return the message of argparse, without the values of unknown flags, which may be secrets."""
    message = str(error).removeprefix("error parsing CLI: ")
    _, is_unknown, words = message.partition("unrecognized arguments: ")
    flags = " ".join(re.findall(r"(?:^| )(--?[\w-]+)", words))
    return f"unrecognized arguments: {flags or 'a value without a flag'}" if is_unknown else message


def _settings_class(program: str) -> Any:  # noqa: ANN401 - Settings, with another program name in --help
    return type("Settings", (Settings,), {"__doc__": Settings.__doc__, "model_config": {"cli_prog_name": program}})


def _sentence(error: Any) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    message = error["msg"].removeprefix("Value error, ")
    if not error["loc"]:
        return str(message)
    return f"{PREFIX}{str(error['loc'][0]).upper()}: {message[0].lower()}{message[1:]}"
