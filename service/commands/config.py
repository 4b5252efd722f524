"""`taskwell config`: prints the effective settings, with secrets masked."""

from service.commands.failure import settings_of
from service.config.masked import masked
from service.config.names import PREFIX


def run(arguments: list[str]) -> int:
    for name, value in masked(settings_of("config", arguments)).items():
        print(f"{PREFIX}{name.upper()}={_shown(value)}")
    return 0


def _shown(value: object) -> object:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else value
