"""Writes the README's tables of settings, errors and metrics from the code; a test holds them current."""

from pathlib import Path

from grpc import StatusCode
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from service.errors import RequestError
from service.metrics import ALL_SERIES
from service.rpc.status import CODES, RETRY_DELAYS
from service.settings import PREFIX, Settings

README = Path(__file__).resolve().parent.parent / "README.md"


def settings_table() -> str:
    """Every setting, its default and what it is for."""
    rows = [f"| `{PREFIX}{name.upper()}` | {_default(field)} | {field.description} |" for name, field in _fields()]
    return "\n".join(["| setting | default | |", "|---|---|---|", *rows])


def errors_table() -> str:
    """Every error: its code, its reason, whether a retry may help, and the message."""
    rows = [
        f"| {code.name} | `{error.reason}` | {_retry(error)} | {_sentence(error)} |"
        for error, code in sorted(CODES.items(), key=_place)
    ]
    return "\n".join(["| code | reason | retry after | message |", "|---|---|---|---|", *rows])


def metrics_table() -> str:
    """Every metric, its labels and what it tells."""
    rows = [
        f"| `{series.name}` | {', '.join(f'`{label}`' for label in series.labels)} | {series.description} |"
        for series in ALL_SERIES
    ]
    return "\n".join(["| metric | labels | |", "|---|---|---|", *rows])


def with_tables(text: str) -> str:
    """The README's text with the tables between their markers as they must be now."""
    tables = {"settings": settings_table(), "errors": errors_table(), "metrics": metrics_table()}
    for name, table in tables.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        text = f"{before}{start}{table}\n{end}{after}"
    return text


def _place(row: tuple[type[RequestError], StatusCode]) -> tuple[int, str]:
    return row[1].value[0], row[0].reason


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return ""
    value = field.default.get_secret_value() if isinstance(field.default, SecretStr) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _retry(error: type[RequestError]) -> str:
    delay = RETRY_DELAYS.get(error)
    return f"{delay / 1000:g} s" if delay else ""


def _sentence(error: type[RequestError]) -> str:
    if error.sentence == "{summary}":
        return "What is wrong with each field, and what to change."
    return error.sentence.replace("{", "*").replace("}", "*")


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
