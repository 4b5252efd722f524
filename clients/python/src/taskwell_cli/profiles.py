"""Profiles: connection options in a file, so that they need not be given with every command.

[profiles.default]
target = "tasks.example:443"
user = "alice"
tls = true
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskwell_cli.failures import WRONG, CommandFailed
from taskwell_cli.streams import say

if TYPE_CHECKING or sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT = "default"
"""The profile that is used if none is named."""

_TEXTS = {"target", "user", "token", "tls_ca", "tls_cert", "tls_key"}
_FILES = {"tls_ca", "tls_cert", "tls_key"}
_FLAGS = {"tls", "insecure"}


def config_path() -> Path | None:
    """The file with the profiles (XDG Base Directory Specification); None for a user without a home folder."""
    # A relative folder is to be ignored, as the specification says.
    for folder in (os.environ.get("XDG_CONFIG_HOME", ""), os.path.expanduser("~/.config")):  # noqa: PTH111 - raises not
        if os.path.isabs(folder):  # noqa: PTH117 - as above
            return Path(folder, "taskwell", "config.toml")
    return None


def profile(name: str | None) -> dict[str, Any]:
    """The options of a profile, of the default profile if `name` is None. Raises CommandFailed."""
    path = config_path()
    profiles = _profiles(path) if path else {}
    if name is None and DEFAULT not in profiles:
        return {}
    if path is None or (name or DEFAULT) not in profiles:
        known = ", ".join(sorted(profiles)) or "none"
        raise CommandFailed(f"there is no profile {name!r} in {path}, which has: {known}", WRONG)
    options = _checked(profiles[name or DEFAULT], f"{path}, profile {name or DEFAULT!r}")
    if "token" in options and os.name == "posix" and path.stat().st_mode & 0o077:
        say(f"taskwell: other users can read {path}, which has a token: chmod 600 it")
    for each in _FILES & set(options):
        options[each] = str(path.parent / Path(options[each]).expanduser())
    return options


def _profiles(path: Path) -> Mapping[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}", WRONG) from None
    except (ValueError, RecursionError) as error:  # not UTF-8, or not TOML
        raise CommandFailed(f"cannot read {path}: {error}", WRONG) from None
    profiles = content.pop("profiles", {})
    if content or not isinstance(profiles, dict):
        wrong = ", ".join(content) or "profiles"
        raise CommandFailed(f"{path} must have tables [profiles.NAME] alone, and not {wrong}", WRONG)
    return profiles


def _checked(options: Any, where: str) -> dict[str, Any]:  # noqa: ANN401 - from a file
    if not isinstance(options, dict):
        raise CommandFailed(f"{where} must be a table", WRONG)
    for name, value in options.items():
        if name in _TEXTS:
            good, wanted = isinstance(value, str) and value != "", "a text that is not empty"
        elif name in _FLAGS:
            good, wanted = isinstance(value, bool), "true or false"
        elif name == "timeout":
            good, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number of seconds"
        else:
            known = ", ".join(sorted({*_TEXTS, *_FLAGS, "timeout"}))
            raise CommandFailed(f"{where}: there is no option {name!r}; there are {known}", WRONG)
        if not good:
            raise CommandFailed(f"{where}: {name} must be {wanted}", WRONG)
    return dict(options)
